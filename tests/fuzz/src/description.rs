//! What a module says about itself, once it is out of its memory: JSON as the control topic has it, or strings of the
//! contract's words put together. It is checked as at a registration, and a pipeline file that uses it is parsed.

use crate::draw;
use arbitrary::Unstructured;
use pipeline::Vars;
use topology::description::{
    Attribute, CapabilityDescription, ModuleDescription, ParameterDescription, PortDescription, StoreDescription, World,
};

const WORDS: [&str; 36] = [
    "in",
    "out",
    "x",
    "",
    "bytes",
    "string",
    "json",
    "i64",
    "f64",
    "any",
    "avro",
    "windowed-string",
    "kind",
    "needs",
    "keys",
    "\"stream\"",
    "\"table\"",
    "[\"headers\", \"origin\"]",
    "\"kept\"",
    "key-value",
    "timestamped",
    "window",
    "key-format",
    "value-format",
    "retention",
    "\"7d\"",
    "integer",
    "number",
    "boolean",
    "duration",
    "list",
    "one-of",
    "min",
    "max",
    "[1, 2.5, \"a\", { b = 1 }]",
    "true",
];

pub fn run(bytes: &[u8]) {
    let description = match serde_json::from_slice::<ModuleDescription>(bytes) {
        Ok(description) => {
            let json = serde_json::to_vec(&description).unwrap();
            let again: ModuleDescription = serde_json::from_slice(&json).unwrap();
            assert_eq!(again, description);
            description
        }
        Err(_) => match made(&mut Unstructured::new(bytes)) {
            Ok(description) => description,
            Err(_) => return,
        },
    };
    let checked = pipeline::check_description(&description);
    if let Err(problems) = &checked {
        assert!(!problems.to_string().is_empty());
    }
    for params in [
        "",
        "params = { x = 1, out = \"a\", in = [1, true], min = 2.5, list = [\"a\"] }",
    ] {
        let text = format!(
            "wasmill = 1\nname = \"p\"\n[sources.in]\ntopic = \"t\"\n[steps.s]\nfrom = \"in\"\nmodule = \"m@1\"\n{params}\n\
             [sinks.out]\nfrom = \"s\"\ntopic = \"u\"\n"
        );
        match pipeline::parse(&text, "p.toml", &Vars::default(), &|_| Ok(description.clone())) {
            Ok(pipeline) => {
                assert!(checked.is_ok(), "a description that is refused is used: {checked:?}");
                assert!(!pipeline.topology.describe().is_empty());
            }
            Err(diagnostics) => assert!(!diagnostics.render(false).is_empty()),
        }
    }
}

fn word(u: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    draw::word(u, &WORDS)
}

fn attribute(u: &mut Unstructured<'_>) -> arbitrary::Result<Attribute> {
    Ok(Attribute {
        name: word(u)?,
        value: word(u)?,
    })
}

fn port(u: &mut Unstructured<'_>) -> arbitrary::Result<PortDescription> {
    Ok(PortDescription {
        name: word(u)?,
        summary: String::new(),
        key_format: word(u)?,
        value_format: word(u)?,
        options: draw::list(u, 2, attribute)?,
    })
}

fn store(u: &mut Unstructured<'_>) -> arbitrary::Result<StoreDescription> {
    Ok(StoreDescription {
        name: word(u)?,
        summary: String::new(),
        kind: word(u)?,
        schema: u.arbitrary()?,
        options: draw::list(u, 2, attribute)?,
    })
}

fn parameter(u: &mut Unstructured<'_>) -> arbitrary::Result<ParameterDescription> {
    Ok(ParameterDescription {
        name: word(u)?,
        summary: String::new(),
        kind: word(u)?,
        default: if u.arbitrary()? { Some(word(u)?) } else { None },
        options: draw::list(u, 2, attribute)?,
    })
}

fn capability(u: &mut Unstructured<'_>) -> arbitrary::Result<CapabilityDescription> {
    Ok(CapabilityDescription {
        name: word(u)?,
        reason: word(u)?,
        options: draw::list(u, 2, attribute)?,
    })
}

fn made(u: &mut Unstructured<'_>) -> arbitrary::Result<ModuleDescription> {
    Ok(ModuleDescription {
        name: if u.ratio(1, 4)? { word(u)? } else { "m".into() },
        version: if u.ratio(1, 4)? { word(u)? } else { "1".into() },
        summary: String::new(),
        digest: "00".into(),
        world: World::Processor,
        inputs: vec![port(u)?],
        outputs: draw::list(u, 2, port)?,
        stores: draw::list(u, 2, store)?,
        parameters: draw::list(u, 2, parameter)?,
        capabilities: draw::list(u, 2, capability)?,
        options: draw::list(u, 2, attribute)?,
        plan: None,
    })
}
