//! `wasmill:clock`: the time while a call runs.

use wasmtime::Result;

use crate::bindings::grantable::wasmill::clock::clock as wit;
use crate::host::Host;

impl wit::Host for Host {
    fn granted(&mut self) -> Result<bool> {
        self.allow_outside("clock.granted")?;
        Ok(self.reach.clock)
    }

    fn wall(&mut self) -> Result<i64> {
        self.allow_outside("clock.wall")?;
        Ok(self.outside("clock.wall", "clock", self.reach.clock)?.wall_ns())
    }

    fn monotonic(&mut self) -> Result<u64> {
        self.allow_outside("clock.monotonic")?;
        Ok(self
            .outside("clock.monotonic", "clock", self.reach.clock)?
            .monotonic_ns())
    }
}
