//! `wasmill:env`: the variables that a step grants, by name.

use wasmtime::{Result, bail};

use crate::bindings::grantable::wasmill::env::env as wit;
use crate::host::Host;

impl wit::Host for Host {
    fn names(&mut self) -> Result<Vec<String>> {
        self.allow_outside("env.names")?;
        Ok(self.reach.env.clone())
    }

    fn get(&mut self, name: String) -> Result<Option<String>> {
        const IMPORT: &str = "env.get";
        self.allow_outside(IMPORT)?;
        if !self.reach.env.contains(&name) {
            bail!(
                "`{IMPORT}`: `{name}` is not granted, or the module's description does not ask for `env`; \
                 hint: say `env = [\"{name}\"]` in `[steps.NAME.grants]`"
            );
        }
        Ok(self.outside(IMPORT, "env", true)?.variable(&name))
    }
}
