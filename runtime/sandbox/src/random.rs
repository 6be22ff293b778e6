//! `wasmill:random`: bytes from the operating system's generator.

use wasmtime::{Result, bail, format_err};

use crate::bindings::grantable::wasmill::random::random as wit;
use crate::host::Host;

/// Of one call: keys and identifiers are short, and streams of them belong into a generator of the guest's own.
const BYTES_MAX: u32 = 64 << 10;

impl Host {
    fn draw(&mut self, import: &str, bytes: &mut [u8]) -> Result<()> {
        self.allow_outside(import)?;
        let drawn = self.outside(import, "random", self.reach.random)?.random(bytes);
        drawn.map_err(|cause| {
            self.suffered = Some(format!("draw random bytes: {cause}"));
            format_err!("`{import}`: {cause}")
        })
    }
}

impl wit::Host for Host {
    fn granted(&mut self) -> Result<bool> {
        self.allow_outside("random.granted")?;
        Ok(self.reach.random)
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>> {
        const IMPORT: &str = "random.bytes";
        if length > BYTES_MAX {
            bail!("`{IMPORT}`: {length} bytes, and at most {BYTES_MAX} go");
        }
        let mut bytes = vec![0; length as usize];
        self.draw(IMPORT, &mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.draw("random.number", &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
