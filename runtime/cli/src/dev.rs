//! `dev`: a node on the embedded log that runs what stands in a folder, and takes every saved change over.
//!
//! A saved source is built and registered as `VERSION+dev.DIGEST8`, then the file is applied with it: an `apply` in which
//! only a module differs keeps the tasks and their state. What does not build, or is refused, changes nothing: the version
//! before runs on.

mod modules;
mod watch;

use crate::args::{DevArgs, Format, Global, TestArgs};
use crate::client::Client;
use crate::commands::{node, start_logging};
use crate::failure::Exit;
use crate::{cases, show};
use anyhow::{Context, Result, bail};
use modules::{From, Wanted};
use server::api::{ApplyRequest, KeptVersions, Module, Pipeline, Plan, SwapBounds, SwapTerms};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use watch::{Changed, LOOK, Watch};

/// A version under work may be slower than the one before by any factor that matters.
const SLOWER_MAX: f64 = 1e6;
/// Until all tasks run the new version; the node's own bounds are shorter.
const SWAPPED: Duration = Duration::from_secs(60);
/// Between two questions whether they do.
const ASK: Duration = Duration::from_millis(20);
/// Looks at the pipeline between changes: every so many at the files.
const HEALTH_EVERY: u32 = 12;
/// Versions that stay registered, so that one may go back by hand.
const VERSIONS_KEPT: usize = 5;

pub fn run(global: &Global, args: &DevArgs) -> Result<()> {
    let file = args.dir.join("pipeline.toml");
    if !file.is_file() {
        bail!(
            "there is no pipeline.toml in `{}`\nhint: `wasmill new NAME` makes a project",
            args.dir.display()
        );
    }
    // The node's own progress is of no interest here; its warnings are, and what guests say.
    let log = if global.log == "info" {
        "warn,guest=info".to_owned()
    } else {
        global.log.clone()
    };
    start_logging(&log, global.log_json);
    let mut config = node::config(&args.node)?;
    if args.node.data_dir.is_none() && args.node.config.is_none() {
        config.data_dir = args.dir.join("target/wasmill-dev");
    }
    let left_out = vec![config.data_dir.clone()];
    let server = node::start(&config, Vec::new())?;
    node::announce(&server, &config);
    show::say(&format!("data in {}", config.data_dir.display()));
    let mut dev = Dev {
        global,
        args,
        file,
        client: Client::own(&server, &config)?,
        watch: Watch::new(&args.dir, left_out),
        digests: BTreeMap::new(),
        stale: BTreeSet::new(),
        registered: VecDeque::new(),
        pipeline: None,
        failed: false,
        looks: 0,
    };
    dev.first();
    let ended = server.wait_or(LOOK, || {
        dev.look();
        None::<()>
    });
    ended.map(drop).map_err(|e| Exit::ours(e.to_string()))
}

struct Dev<'a> {
    global: &'a Global,
    args: &'a DevArgs,
    file: PathBuf,
    client: Client,
    watch: Watch,
    /// What runs: module as the file names it → digest.
    digests: BTreeMap<String, String>,
    /// Modules whose sources changed since they were last built.
    stale: BTreeSet<String>,
    /// `name@version` of what was registered, the newest last.
    registered: VecDeque<String>,
    pipeline: Option<String>,
    /// The pipeline's failure was said.
    failed: bool,
    looks: u32,
}

/// What a turn took.
struct Took {
    since: SystemTime,
    build: Duration,
}

impl Dev<'_> {
    fn first(&mut self) {
        let started = SystemTime::now();
        self.former();
        match self.take_over(None, started) {
            Ok(_) => show::say("saving a file takes it over; Ctrl-C stops"),
            Err(error) => {
                crate::failure::report(&error);
                show::say("nothing runs yet; waiting for a change");
            }
        }
        self.test();
    }

    fn look(&mut self) {
        if let Some(changed) = self.watch.changed() {
            return self.on_change(&changed);
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(HEALTH_EVERY) {
            self.say_when_it_fails();
        }
    }

    fn on_change(&mut self, changed: &Changed) {
        let wanted = match self.wanted() {
            Ok(wanted) => wanted,
            Err(error) => {
                crate::failure::report(&error);
                return;
            }
        };
        let made_here = |path: &PathBuf| {
            wanted
                .iter()
                .any(|w| matches!(&w.from, From::Sources { output, .. } if output == path))
        };
        let paths: Vec<&PathBuf> = changed.paths.iter().filter(|path| !made_here(path)).collect();
        let Some(first) = paths.first() else { return };
        let more = if paths.len() > 1 {
            format!(" and {} more", paths.len() - 1)
        } else {
            String::new()
        };
        let shown = first.strip_prefix(&self.args.dir).unwrap_or(first);
        show::say(&format!("\n{}{more} changed", shown.display()));
        let cases = self.args.dir.join("cases");
        if !paths.iter().all(|path| path.starts_with(&cases)) {
            let taken = self.take_over(Some(&paths), changed.at).unwrap_or_else(|error| {
                crate::failure::report(&error);
                false
            });
            if !taken {
                let runs = if self.pipeline.is_some() {
                    "what ran before runs on"
                } else {
                    "nothing runs yet"
                };
                show::say(&format!("{runs}; waiting for a change"));
            }
        }
        self.test();
    }

    fn vars(&self) -> Result<pipeline::Vars> {
        crate::commands::file::vars(&self.args.vars)
    }

    fn wanted(&self) -> Result<Vec<Wanted>> {
        let text = read(&self.file)?;
        Ok(modules::wanted(&self.args.dir, &text, &self.vars()?))
    }

    /// Builds what changed (`None`: everything), and applies the file with it. A module that does not build stays as it
    /// is, and its error is said; then it is `Ok(false)`.
    fn take_over(&mut self, paths: Option<&[&PathBuf]>, since: SystemTime) -> Result<bool> {
        let started = Instant::now();
        let cases = self.args.dir.join("cases");
        let is_source = |path: &Path| path != self.file && !path.starts_with(&cases);
        let touches = |place: &Path| {
            paths.is_none_or(|paths| paths.iter().any(|path| is_source(path) && path.starts_with(place)))
        };
        let wanted = self.wanted()?;
        let mut stale = Vec::new();
        for Wanted { named, from } in &wanted {
            let place = match from {
                From::Sources { folder, .. } => folder,
                From::Component(path) => path,
                From::Registry => continue,
            };
            if !self.digests.contains_key(named) || touches(place) {
                stale.push(named.clone());
            }
        }
        // One that did not build is tried again with the next source, not with the next line of the pipeline file.
        let build = !stale.is_empty();
        self.stale.extend(stale);
        let (mut built, mut failed) = (Vec::new(), false);
        for Wanted { named, from } in wanted.into_iter().filter(|_| build) {
            if !self.stale.contains(&named) {
                continue;
            }
            let made = match from {
                From::Sources { folder, output } => modules::build(&folder, &output),
                From::Component(path) => modules::read(&path),
                From::Registry => continue,
            };
            match made {
                Ok(bytes) => built.push((named, bytes)),
                Err(error) if self.digests.contains_key(&named) => {
                    crate::failure::report(&error);
                    failed = true;
                }
                Err(error) => return Err(error),
            }
        }
        let took = Took {
            since,
            build: started.elapsed(),
        };
        let file_changed = paths.is_none_or(|paths| paths.iter().any(|path| **path == self.file));
        if !failed || !built.is_empty() || file_changed {
            self.register(built, &took)?;
        }
        Ok(!failed)
    }

    fn register(&mut self, built: Vec<(String, Vec<u8>)>, took: &Took) -> Result<()> {
        let (mut digests, mut new) = (self.digests.clone(), Vec::new());
        for (named, bytes) in built {
            let module: Module = self.client.post_bytes("/v1/modules?dev=true", &bytes)?;
            self.keep(&module);
            new.push(id(&module));
            self.stale.remove(&named);
            digests.insert(named, module.digest);
        }
        self.apply(digests, &new, took)
    }

    /// Old versions are forgotten, save those that something uses: these are refused.
    fn keep(&mut self, module: &Module) {
        let id = id(module);
        self.registered.retain(|known| *known != id);
        self.registered.push_back(id);
        while self.registered.len() > VERSIONS_KEPT
            && let Some(old) = self.registered.pop_front()
        {
            drop(self.client.delete(&format!("/v1/modules/{old}")));
        }
    }

    /// What former sessions on the same data registered.
    fn former(&mut self) {
        let mut modules: Vec<Module> = self.client.get("/v1/modules", &[]).unwrap_or_default();
        modules.retain(|module| module.version.contains("+dev."));
        modules.sort_by_key(|module| module.added_at);
        self.registered.extend(modules.iter().map(id));
    }

    fn apply(&mut self, digests: BTreeMap<String, String>, new: &[String], took: &Took) -> Result<()> {
        let request = ApplyRequest {
            file: read(&self.file)?,
            file_name: self.file.display().to_string(),
            vars: crate::commands::file::variables(&self.args.vars)?,
            paths: digests.clone(),
            versions: KeptVersions::File,
            // Who works on a module wants to see it run, and is there to see it fail.
            terms: SwapTerms {
                watch_ms: Some(0),
                bounds: SwapBounds {
                    dead_letters: Some(1.0),
                    slower: Some(SLOWER_MAX),
                    ..SwapBounds::default()
                },
                ..SwapTerms::default()
            },
            by: "dev".to_owned(),
        };
        let plan: Plan = self.client.post("/v1/plan", &request)?;
        if !plan.refused.is_empty() {
            bail!(
                "`{}` cannot be applied:\n  {}",
                plan.pipeline,
                plan.refused.join("\n  ")
            );
        }
        if plan.changes.is_empty() && self.pipeline.is_some() {
            show::say(&format!(
                "the same as before: nothing to take over, after {}",
                since(took.since)
            ));
            self.digests = digests;
            return Ok(());
        }
        let before = self
            .pipeline
            .as_ref()
            .and_then(|name| self.shown(name))
            .map(|pipeline| pipeline.modules);
        let _: Plan = self.client.post("/v1/pipelines", &request)?;
        let first = self.pipeline.replace(plan.pipeline.clone()).is_none();
        self.digests = digests;
        self.failed = false;
        let Some(now) = self.runs(&plan.pipeline, new) else {
            self.say_when_it_fails();
            if !self.failed {
                show::say("it has not taken over yet; `wasmill status` says why");
            }
            return Ok(());
        };
        for (step, module) in &now.modules {
            if before.as_ref().and_then(|before| before.get(step)) != Some(module) {
                show::say(&format!("  {step:16} {module}"));
            }
        }
        let all = since(took.since);
        let build = show::duration(took.build.as_millis() as u64);
        if first {
            show::say(&format!(
                "running {}, {all} after the start, {build} of them in compilers",
                plan.pipeline
            ));
        } else {
            show::say(&format!(
                "swapped in, {all} after the save, {build} of them in compilers"
            ));
        }
        Ok(())
    }

    fn shown(&self, name: &str) -> Option<Pipeline> {
        self.client.get(&format!("/v1/pipelines/{name}"), &[]).ok()
    }

    /// Waits until every task runs, with the modules `new`; `None` when one stopped, or it takes too long.
    fn runs(&self, name: &str, new: &[String]) -> Option<Pipeline> {
        let deadline = Instant::now() + SWAPPED;
        while Instant::now() < deadline {
            let pipeline = self.shown(name);
            let has = |pipeline: &Pipeline| new.iter().all(|id| pipeline.modules.values().any(|known| known == id));
            match pipeline {
                Some(pipeline) if pipeline.state == "failed" => return None,
                Some(pipeline) if matches!(&*pipeline.state, "running" | "paused") && has(&pipeline) => {
                    return Some(pipeline);
                }
                _ => std::thread::sleep(ASK),
            }
        }
        None
    }

    /// Once for a failure, not at every look.
    fn say_when_it_fails(&mut self) {
        let Some(pipeline) = self.pipeline.clone().and_then(|name| self.shown(&name)) else {
            return;
        };
        let fails = pipeline.state == "failed";
        if fails && !self.failed {
            show::say(&format!("{} stopped: {}", pipeline.name, node::why(&pipeline)));
            show::say("what was committed stays; a saved change goes on from there");
        }
        self.failed = fails;
    }

    /// The cases, when they were asked for.
    fn test(&self) {
        let has_cases = self.args.dir.join("cases").is_dir();
        if !self.args.test || !has_cases || self.global.format == Format::Json {
            return;
        }
        let args = TestArgs {
            dir: self.args.dir.clone(),
            vars: self.args.vars.clone(),
            ..TestArgs::default()
        };
        if let Err(error) = cases::run(self.global, &args) {
            crate::failure::report(&error);
        }
    }
}

fn id(module: &Module) -> String {
    format!("{}@{}", module.name, module.version)
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("failed to read the pipeline file `{}`", file.display()))
}

/// `1.2 s`.
fn since(moment: SystemTime) -> String {
    show::duration(moment.elapsed().unwrap_or_default().as_millis() as u64)
}
