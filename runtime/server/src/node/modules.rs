//! Modules: register, list, remove, load.

use super::{Node, lock};
use crate::api;
use crate::refusal::Refusal;
use crate::registry::{Entry, ModuleRecord, Registry, digest_of, now_ms};
use sandbox::{Sandbox, SandboxOptions};
use std::path::PathBuf;
use topology::description::ModuleDescription;

fn refused(error: &sandbox::Error) -> Refusal {
    Refusal::invalid("invalid-module", error.to_string())
}

/// A module's bytes as the sandbox takes them.
fn loaded(sandbox: &Sandbox, bytes: &[u8]) -> Result<sandbox::Module, Refusal> {
    sandbox.load(bytes).map_err(|e| refused(&e))
}

/// Puts the compiled forms of `modules` into the cache, in the background.
pub(super) fn compile_ahead(sandbox: &Sandbox, modules: Vec<PathBuf>) {
    for path in modules {
        let sandbox = sandbox.clone();
        let compile = move || {
            // What is wrong with the file or the module is said to whoever adds it.
            if let Ok(bytes) = std::fs::read(path) {
                drop(sandbox.load(&bytes));
            }
        };
        // Without a thread it is compiled when it is added.
        drop(std::thread::Builder::new().name("compile-ahead".into()).spawn(compile));
    }
}

/// What a module says about itself, without a node.
pub(crate) fn described(bytes: &[u8]) -> Result<ModuleDescription, Refusal> {
    let sandbox = Sandbox::new(SandboxOptions::default()).map_err(|e| refused(&e))?;
    Ok(loaded(&sandbox, bytes)?.description().clone())
}

fn shown(record: &ModuleRecord, new: bool) -> api::Module {
    api::Module {
        name: record.name.clone(),
        version: record.version.clone(),
        digest: record.digest.clone(),
        bytes: record.bytes,
        added_at: record.added_at,
        description: serde_json::to_value(&record.description).unwrap_or_default(),
        new,
    }
}

impl Node {
    pub fn modules(&self) -> Result<Vec<api::Module>, Refusal> {
        Ok(self
            .registry()
            .view()
            .modules
            .values()
            .map(|record| shown(record, false))
            .collect())
    }

    pub fn module(&self, id: &str) -> Result<api::Module, Refusal> {
        let registry = self.registry();
        let record = registry.view().modules.get(id).ok_or_else(|| unknown(&registry, id))?;
        Ok(shown(record, false))
    }

    /// The bytes of a registered component.
    pub fn component(&self, id: &str) -> Result<Vec<u8>, Refusal> {
        let registry = self.registry();
        let record = registry.view().modules.get(id).ok_or_else(|| unknown(&registry, id))?;
        Ok(registry.module_bytes(&record.digest)?)
    }

    /// Checks, compiles and registers a component. The same bytes again change nothing; other bytes under the same
    /// name and version are refused.
    ///
    /// `dev`: under `VERSION+dev.DIGEST8`, so that every build has a version of its own.
    pub fn add_module(&self, bytes: &[u8], dev: bool) -> Result<api::Module, Refusal> {
        let digest = digest_of(bytes);
        if let Some(record) = self.registry().view().module_by_digest(&digest) {
            return Ok(shown(record, false));
        }
        let module = loaded(&self.sandbox, bytes)?;
        let mut description = module.description().clone();
        if dev {
            description.version = dev_version(&description.version, &digest);
        }
        pipeline::check_description(&description).map_err(|problems| {
            Refusal::invalid(
                "invalid-module",
                format!("the module's description is wrong: {problems}"),
            )
        })?;
        lock(&self.loaded).insert(digest.clone(), module);
        let record = ModuleRecord {
            name: description.name.clone(),
            version: description.version.clone(),
            digest: digest.clone(),
            bytes: bytes.len() as u64,
            added_at: now_ms(),
            description,
        };
        let mut registry = self.registry();
        registry.put_module(&digest, bytes)?;
        registry.write(|view| match view.modules.get(&record.id()) {
            Some(there) if there.digest == record.digest => Ok(Vec::new()),
            Some(there) => Err(format!(
                "{} is registered with other bytes (digest {})\nhint: give the module a new version",
                record.id(),
                there.digest
            )),
            None => Ok(vec![(record.key(), Some(Entry::Module(Box::new(record.clone()))))]),
        })?;
        Ok(shown(&record, true))
    }

    pub fn remove_module(&self, id: &str) -> Result<(), Refusal> {
        let mut registry = self.registry();
        let key = registry
            .view()
            .modules
            .get(id)
            .ok_or_else(|| unknown(&registry, id))?
            .key();
        registry.write(|view| {
            let Some(record) = view.modules.get(id) else {
                return Ok(Vec::new());
            };
            match view.users_of(&record.digest).as_slice() {
                [] => Ok(vec![(key.clone(), None)]),
                users => Err(format!("{id} is used by {}", users.join(", "))),
            }
        })?;
        Ok(())
    }

    /// A registered module, ready to make instances.
    pub(crate) fn load(&self, digest: &str) -> Result<sandbox::Module, Refusal> {
        if let Some(module) = lock(&self.loaded).get(digest) {
            return Ok(module.clone());
        }
        let bytes = self.registry().module_bytes(digest)?;
        let module = loaded(&self.sandbox, &bytes)?;
        lock(&self.loaded).insert(digest.to_owned(), module.clone());
        Ok(module)
    }
}

fn dev_version(version: &str, digest: &str) -> String {
    format!("{version}+dev.{}", digest.get(..8).unwrap_or(digest))
}

pub(super) fn unknown(registry: &Registry, id: &str) -> Refusal {
    let known: Vec<&str> = registry.view().modules.keys().map(String::as_str).collect();
    let known = if known.is_empty() {
        "none is".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    Refusal::not_found(format!(
        "no module `{id}` is registered; {known}\nhint: `wasmill module add FILE`"
    ))
}
