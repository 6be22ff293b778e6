//! Passes values on and says so in its log: `warn …` and `debug …` at those levels, others at `info`.

fn talk(value: &str) -> String {
    match value.split(' ').next() {
        Some("warn") => wasmill_guest::warn!("saw {value}"),
        Some("debug") => wasmill_guest::debug!("saw {value}"),
        _ => wasmill_guest::info!("saw {value}"),
    }
    value.to_uppercase()
}

wasmill_guest::map_values!(talk);
