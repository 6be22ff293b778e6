//! The pipeline whose cases run: its topology, its modules, and the formats of what its cases name.

use super::read;
use super::world::World;
use anyhow::{Result, bail};
use driver::NewProcessor;
use pipeline::{ModuleRef, Undescribed, Vars};
use sandbox::{InstanceOptions, Module, Sandbox, SandboxOptions, TaskName};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use topology::{Format, NodeKind, Topology};

pub struct Project {
    pub topology: Arc<Topology>,
    /// By digest.
    modules: BTreeMap<String, Module>,
    topics: BTreeMap<String, Topic>,
    /// Of the case that is played.
    world: RefCell<Arc<World>>,
}

/// What cases may do with a topic, and what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    pub key: Format,
    pub value: Format,
    /// A source of the file reads it.
    pub is_input: bool,
    /// A sink of the file writes it.
    pub is_output: bool,
}

/// What may be looked into.
#[derive(Clone, Copy, Debug)]
pub struct Store<'p> {
    pub name: &'p str,
    pub key: Format,
    pub value: Format,
}

impl Project {
    pub fn load(dir: &Path, vars: &Vars) -> Result<Self> {
        let file = dir.join("pipeline.toml");
        let modules = Modules {
            dir,
            sandbox: RefCell::default(),
            loaded: RefCell::default(),
        };
        let topology = topology(&read(&file)?, &file.display().to_string(), vars, &|module| {
            modules.describe(module)
        })?;
        Ok(Self::new(topology, modules.loaded.into_inner()))
    }

    /// A pipeline of native operators only.
    #[cfg(test)]
    pub fn native(text: &str) -> Result<Self> {
        let none = |_: &ModuleRef| {
            Err(Undescribed {
                message: "not here".into(),
                hint: None,
                known: Vec::new(),
            })
        };
        Ok(Self::new(
            topology(text, "pipeline.toml", &Vars::default(), &none)?,
            BTreeMap::new(),
        ))
    }

    /// `modules`: by digest.
    pub fn new(topology: Topology, modules: BTreeMap<String, Module>) -> Self {
        let mut topics = BTreeMap::new();
        for node in &topology.nodes {
            let (names, key, value, source, sink) = match &node.kind {
                NodeKind::Source(s) => {
                    let own = s.kind != topology::SourceKind::Repartition;
                    (s.topics.clone(), s.key, s.value, own, false)
                }
                NodeKind::Sink(s) => (vec![s.topic.clone()], s.key, s.value, false, true),
                _ => continue,
            };
            for name in names {
                let known = topics.entry(name).or_insert(Topic {
                    key,
                    value,
                    is_input: false,
                    is_output: false,
                });
                known.is_input |= source;
                known.is_output |= sink;
            }
        }
        for table in &topology.globals {
            let topic = Topic {
                key: table.key,
                value: table.value,
                is_input: true,
                is_output: false,
            };
            topics.insert(table.topic.clone(), topic);
        }
        Self {
            topology: Arc::new(topology),
            modules,
            topics,
            world: RefCell::default(),
        }
    }

    /// What is outside of the modules from now on.
    pub fn set_world(&self, world: World) {
        *self.world.borrow_mut() = Arc::new(world);
    }

    pub fn world(&self) -> Arc<World> {
        self.world.borrow().clone()
    }

    pub fn topics(&self) -> &BTreeMap<String, Topic> {
        &self.topics
    }

    pub fn topic(&self, name: &str) -> Option<Topic> {
        self.topics.get(name).copied()
    }

    /// Stores that a file or a module declares, then global tables.
    pub fn stores(&self) -> impl Iterator<Item = Store<'_>> {
        let times: Vec<String> = self
            .topology
            .sub_topologies
            .iter()
            .map(|sub| topology::times_store(sub.id))
            .collect();
        let stores = self.topology.stores.iter();
        let stores = stores.filter(move |store| !times.contains(&store.name));
        let globals = self.topology.globals.iter();
        stores
            .map(|store| (&store.name, store.key, store.value))
            .chain(globals.map(|table| (&table.name, table.key, table.value)))
            .map(|(name, key, value)| Store { name, key, value })
    }

    pub fn new_processor(&self) -> NewProcessor {
        let modules = self.modules.clone();
        let topology = Arc::clone(&self.topology);
        let world = self.world();
        Arc::new(move |id, node, step| {
            let module = modules
                .get(&step.digest)
                .ok_or_else(|| format!("{} is not loaded", step.module))?;
            let mut options = InstanceOptions::of_step(
                step,
                TaskName {
                    pipeline: topology.name.clone(),
                    step: topology.nodes.get(node).map(|n| n.name.clone()).unwrap_or_default(),
                    sub_topology: id.sub_topology,
                    partition: 0,
                },
            );
            options.outside = Some(world.clone());
            module.instance(options).map_err(|e| e.to_string())
        })
    }
}

type Described = Result<topology::description::ModuleDescription, Undescribed>;

fn topology(text: &str, file: &str, vars: &Vars, describe: &dyn Fn(&ModuleRef) -> Described) -> Result<Topology> {
    match pipeline::parse(text, file, vars, describe) {
        Ok(pipeline) => Ok(pipeline.topology),
        Err(diagnostics) => bail!("{}", diagnostics.render(false)),
    }
}

/// Components that a file names, each compiled once.
struct Modules<'a> {
    dir: &'a Path,
    /// Made for the first module: a file of native operators needs none.
    sandbox: RefCell<Option<Sandbox>>,
    loaded: RefCell<BTreeMap<String, Module>>,
}

impl Modules<'_> {
    fn describe(&self, module: &ModuleRef) -> Described {
        let loaded = match module {
            ModuleRef::File(path) => self.load(&self.dir.join(path.trim_start_matches("./")))?,
            ModuleRef::Registered { name, version } => self.registered(name, version)?,
        };
        let description = loaded.description().clone();
        self.loaded.borrow_mut().insert(loaded.digest().to_owned(), loaded);
        Ok(description)
    }

    /// What a node would have in its registry was built somewhere near: `NAME.wasm` here or in a folder here.
    fn registered(&self, name: &str, version: &str) -> Result<Module, Undescribed> {
        let file = format!("{name}.wasm");
        let mut places: Vec<PathBuf> = vec![self.dir.to_owned()];
        places.extend(super::folders(self.dir).unwrap_or_default());
        let mut others = Vec::new();
        for path in places
            .iter()
            .map(|place| place.join(&file))
            .filter(|path| path.is_file())
        {
            let module = self.load(&path)?;
            if module.name() == format!("{name}@{version}") {
                return Ok(module);
            }
            others.push(module.name());
        }
        let place = self.dir.display();
        let hint = format!("`wasmill build` makes it; tests look for it in `{place}` and the folders in it");
        Err(Undescribed {
            message: format!("there is no `{file}` of that version"),
            hint: Some(hint),
            known: others,
        })
    }

    fn load(&self, path: &Path) -> Result<Module, Undescribed> {
        let failed = |message: String, hint: Option<&str>| Undescribed {
            message,
            hint: hint.map(str::to_owned),
            known: Vec::new(),
        };
        let bytes = std::fs::read(path)
            .map_err(|e| failed(format!("`{}`: {e}", path.display()), Some("`wasmill build` makes it")))?;
        let mut sandbox = self.sandbox.borrow_mut();
        let sandbox = match &mut *sandbox {
            Some(sandbox) => sandbox,
            none => none.insert(Sandbox::new(SandboxOptions::default()).map_err(|e| failed(e.to_string(), None))?),
        };
        sandbox
            .load(&bytes)
            .map_err(|e| failed(format!("`{}`: {e}", path.display()), None))
    }
}
