//! What wasmtime generates from `wit/`, unchanged; every other file of this crate speaks these types at its edge.
//!
//! Parameters of the guest's exports borrow, so that a column is lowered by one copy into the guest's memory;
//! what comes from a guest is owned, since its memory may move under the next call.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "wasmill:streams/processor",
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
