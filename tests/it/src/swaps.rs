//! Swaps on the real thing: a node under load whose stamping module is exchanged, and a reader that sees in every
//! record which version made it, and in the counts whether state was kept.

pub mod acts;
pub mod reader;
pub mod stage;

pub use reader::Reader;
pub use stage::Stage;
