//! What wasmtime generates from `wit/`, unchanged; every other file of this crate speaks these types at its edge.
//!
//! Parameters of the guest's exports borrow, so that a column is lowered by one copy into the guest's memory;
//! what comes from a guest is owned, since its memory may move under the next call.

wasmtime::component::bindgen!({
    path: "../../wit",
    // The exports of all worlds in one, so that what they have in common has one type here.
    inline: "
        package wasmill:host;
        world modules {
            include wasmill:streams/processor@0.1.0;
            include wasmill:streams/application@0.1.0;
        }
    ",
    world: "wasmill:host/modules",
    imports: { default: trappable },
    ownership: Borrowing { duplicate_if_necessary: true },
});

/// What pipelines may grant: imports only, which every module's linker has.
pub(crate) mod grantable {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wasmill:streams/grantable",
        imports: { default: trappable },
    });
}
