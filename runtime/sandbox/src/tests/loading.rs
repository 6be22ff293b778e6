//! From bytes to a module: what is refused, what is cached.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::guest::Guest;
use super::{load, sandbox};
use crate::{Error, Sandbox, SandboxOptions};

#[test]
fn a_module_describes_itself() {
    let module = load(&Guest {
        stores: &["counts", "seen"],
        ..Guest::default()
    });
    let description = module.description();
    assert_eq!(module.name(), "tiny@1.0.0");
    assert_eq!(
        (
            description.inputs[0].name.as_str(),
            description.outputs[0].value_format.as_str()
        ),
        ("in", "bytes")
    );
    assert_eq!(
        description.stores.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
        ["counts", "seen"]
    );
    assert_eq!(
        (module.digest().len(), &description.digest),
        (64, &module.digest().to_owned())
    );
}

#[test]
fn what_is_no_module_is_refused_with_its_name() {
    let sandbox = sandbox();
    let core = wat::parse_str("(module)").unwrap();
    let bare = wat::parse_str("(component)").unwrap();
    let newer = Guest {
        streams_version: "0.2.0",
        ..Guest::default()
    }
    .build();
    let wasi = Guest {
        extra_import: "wasi:clocks/wall-clock@0.2.0",
        ..Guest::default()
    }
    .build();
    let mut broken = Guest::default().build();
    broken.truncate(broken.len() - 10);
    let cases: [(&[u8], &[&str]); 5] = [
        (&core, &["a core WebAssembly module", "wasmill componentize"]),
        (&bare, &["does not export `wasmill:streams/module@0.1.0`", "nothing"]),
        (&newer, &["wasmill:streams@0.2.0", "wasmill:streams@0.1.0"]),
        (&wasi, &["`wasi:clocks/wall-clock@0.2.0`", "no module gets WASI"]),
        (&broken, &["does not compile"]),
    ];
    for (bytes, expected) in cases {
        let error = sandbox.load(bytes).unwrap_err();
        assert!(error.is_about_the_module());
        let message = error.to_string();
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn describe_runs_without_the_world() {
    let cases = [
        (
            "(call $stop (i32.const 16) (i32.const 3))",
            "an import called from `describe` traps: `timers.stop`",
        ),
        (
            "(call $log (i32.const 2) (i32.const 16) (i32.const 3) (i32.const 0) (i32.const 0))",
            "`log.write`",
        ),
        ("unreachable", "`describe` gave up"),
        ("(drop (memory.grow (i32.const 60000)))", "`limits.memory` is 256MiB"),
    ];
    for (describe, expected) in cases {
        let message = sandbox()
            .load(
                &Guest {
                    describe,
                    ..Guest::default()
                }
                .build(),
            )
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn artifacts_are_taken_from_a_private_directory_only() {
    let directory = tempfile::tempdir().unwrap();
    let cache_dir = directory.path().join("modules");
    let open = || {
        Sandbox::new(SandboxOptions {
            cache_dir: Some(cache_dir.clone()),
        })
    };
    let bytes = Guest::default().build();
    let digest = open().unwrap().load(&bytes).unwrap().digest().to_owned();

    let mut files: Vec<_> = fs::read_dir(&cache_dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "an artifact and its digest: {files:?}");
    for file in &files {
        assert!(file.file_name().unwrap().to_str().unwrap().starts_with(&digest));
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    // Another's code under the right name is not run, but replaced.
    let artifact = fs::read(&files[0]).unwrap();
    let mut forged = artifact.clone();
    *forged.last_mut().unwrap() ^= 1;
    fs::write(&files[0], &forged).unwrap();
    open().unwrap().load(&bytes).unwrap();
    assert_eq!(fs::read(&files[0]).unwrap(), artifact);

    // What is there is used: an artifact of another module, moved here with its digest, has the wrong one.
    let other = Guest {
        stores: &["s"],
        ..Guest::default()
    }
    .build();
    assert_eq!(open().unwrap().load(&other).unwrap().description().stores.len(), 1);

    fs::set_permissions(&cache_dir, fs::Permissions::from_mode(0o750)).unwrap();
    let refused = open().err().unwrap();
    assert!(
        matches!(&refused, Error::Cache { .. }) && refused.to_string().contains("chmod 700"),
        "{refused}"
    );
    assert!(!refused.is_about_the_module());
}
