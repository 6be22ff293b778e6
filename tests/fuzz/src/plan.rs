//! The plan of an application: nodes of the contract's words put together, or JSON as the control topic has it, in an
//! otherwise good description. A pipeline file that uses it is parsed.

use crate::draw::{list, word};
use arbitrary::Unstructured;
use pipeline::Vars;
use topology::description::{
    Attribute, ModuleDescription, Plan, PlanBinding, PlanFunction, PlanNode, PortDescription, World,
};

/// Few names, so that nodes feed each other.
const NAMES: [&str; 6] = ["a", "b", "c", "in", "out", ""];
const OPERATORS: [&str; 18] = [
    "filter",
    "filter-not",
    "map",
    "map-values",
    "flat-map",
    "flat-map-values",
    "select-key",
    "group-by",
    "count",
    "sum",
    "reduce",
    "aggregate",
    "merge",
    "to-table",
    "suppress",
    "dedup",
    "join",
    "branch",
];
const ROLES: [&str; 4] = ["transform", "aggregate", "join", "process"];
const OPTIONS: [(&str, &str); 16] = [
    ("key-result", "\"i64\""),
    ("result", "\"string\""),
    ("partitions", "4"),
    ("emit", "\"on-commit\""),
    ("emit", "\"every-update\""),
    ("window", "{ size = \"1m\", grace = \"0s\" }"),
    ("window", "{ session = \"10s\" }"),
    ("group-by", "\"value\""),
    ("by", "\"value.x\""),
    ("of", "\"value\""),
    ("where", "\"value > 1\""),
    ("value", "\"value + 1\""),
    ("key", "\"string(value)\""),
    ("within", "\"1h\""),
    ("ttl", "\"1h\""),
    ("until", "\"window-closes\""),
];

pub fn run(bytes: &[u8]) {
    let plan = match serde_json::from_slice::<Plan>(bytes) {
        Ok(plan) => {
            let json = serde_json::to_vec(&plan).unwrap();
            assert_eq!(serde_json::from_slice::<Plan>(&json).unwrap(), plan);
            plan
        }
        Err(_) => match made(&mut Unstructured::new(bytes)) {
            Ok(plan) => plan,
            Err(_) => return,
        },
    };
    let port = |name: &str| PortDescription {
        name: name.into(),
        key_format: "any".into(),
        value_format: "any".into(),
        ..PortDescription::default()
    };
    let description = ModuleDescription {
        name: "m".into(),
        version: "1".into(),
        digest: "00".into(),
        world: World::Application,
        inputs: vec![port("in")],
        outputs: vec![port("out")],
        plan: Some(plan),
        ..ModuleDescription::default()
    };
    let text = "wasmill = 1\nname = \"p\"\n[sources.in]\ntopic = \"t\"\nvalue = \"json\"\n[steps.s]\nfrom = \"in\"\n\
                module = \"m@1\"\n[sinks.out]\nfrom = \"s\"\ntopic = \"u\"\n";
    match pipeline::parse(text, "p.toml", &Vars::default(), &|_| Ok(description.clone())) {
        Ok(pipeline) => assert!(!pipeline.topology.describe().is_empty()),
        Err(diagnostics) => assert!(!diagnostics.render(false).is_empty()),
    }
}

fn option(u: &mut Unstructured<'_>) -> arbitrary::Result<Attribute> {
    let (name, value) = *u.choose(&OPTIONS)?;
    Ok(Attribute {
        name: if u.ratio(1, 12)? { word(u, &NAMES)? } else { name.into() },
        value: if u.ratio(1, 12)? {
            word(u, &NAMES)?
        } else {
            value.into()
        },
    })
}

fn function(u: &mut Unstructured<'_>) -> arbitrary::Result<PlanFunction> {
    Ok(PlanFunction {
        role: word(u, &ROLES)?,
        number: u.arbitrary()?,
    })
}

fn node(u: &mut Unstructured<'_>) -> arbitrary::Result<PlanNode> {
    Ok(PlanNode {
        name: word(u, &NAMES)?,
        operator: word(u, &OPERATORS)?,
        inputs: list(u, 2, |u| word(u, &NAMES))?,
        options: list(u, 3, option)?,
        functions: list(u, 2, function)?,
    })
}

fn made(u: &mut Unstructured<'_>) -> arbitrary::Result<Plan> {
    Ok(Plan {
        nodes: list(u, 4, node)?,
        outputs: vec![PlanBinding {
            port: if u.ratio(1, 6)? { word(u, &NAMES)? } else { "out".into() },
            node: word(u, &NAMES)?,
        }],
        digest: String::new(),
    })
}
