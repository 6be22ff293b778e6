//! From wasmtime's errors to what the task and the user are told.

use task::processor::Failure;
use wasmtime::{Error, Trap, WasmBacktrace};

use crate::host::{Host, TooMuch, size};

/// Frames kept of a backtrace: what is longer is recursion.
pub(crate) const FRAMES_MAX: usize = 40;

/// How wasmtime words that a guest handed over more than the store's hostcall fuel; it has no type for it.
const TOO_MUCH: &str = "hostcall";

/// Why a call ended without an answer.
pub(crate) fn of_call(error: &Error, host: &mut Host) -> Failure {
    if let Some(cause) = host.suffered.take() {
        return Failure::Host(cause);
    }
    Failure::Trap {
        cause: cause(error, host),
        backtrace: backtrace(error),
    }
}

/// One line, with the guest's last words where it had some.
fn cause(error: &Error, host: &Host) -> String {
    let export = host.phase.export();
    let root = error.root_cause().to_string();
    let cause = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            format!("`{export}` ran longer than {} ms (`limits.call`)", host.limits.call_ms)
        }
        Some(Trap::StackOverflow) => format!("`{export}` overflowed its stack: endless recursion?"),
        Some(Trap::UnreachableCodeReached) => match host.log.last_error() {
            Some(said) => return format!("`{export}` gave up: {said}"),
            None => format!("`{export}` gave up (`unreachable`: a panic, an abort or an exception)"),
        },
        Some(trap) => format!("`{export}` trapped: {trap}"),
        None if error.is::<TooMuch>() || (root.contains(TOO_MUCH) && root.contains("fuel")) => format!(
            "`{export}` handed the host more than {} in one call (`limits.result`)",
            size(host.limits.result_bytes)
        ),
        None => format!("`{export}` failed: {}", root.lines().next().unwrap_or_default()),
    };
    match host.log.last_error() {
        Some(said) => format!("{cause}; its last words: {said}"),
        None => cause,
    }
}

/// `module!function` a line, innermost first.
fn backtrace(error: &Error) -> String {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    let lines: Vec<String> = trace
        .frames()
        .iter()
        .map(|frame| {
            let function = match frame.func_name() {
                Some(name) => demangle(name),
                None => format!("function {}", frame.func_index()),
            };
            match frame.module().name() {
                Some(module) => format!("{}!{function}", module.trim_end_matches(".wasm")),
                None => function,
            }
        })
        .collect();
    lines.join("\n")
}

/// Rust's names without the hashes in them; others stay.
fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_names_are_readable() {
        let cases = [
            (
                "_ZN4core9panicking9panic_fmt17h0123456789abcdefE",
                "core::panicking::panic_fmt",
            ),
            (
                "_ZN4pass28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
                "pass::{{closure}}",
            ),
            ("process", "process"),
            (
                "_RNvNtCsgPGlVSkxRGi_4core9panicking9panic_fmt",
                "core::panicking::panic_fmt",
            ),
            (
                "wasmill:streams/processing@0.1.0#process",
                "wasmill:streams/processing@0.1.0#process",
            ),
        ];
        for (mangled, readable) in cases {
            assert_eq!(demangle(mangled), readable);
        }
    }
}
