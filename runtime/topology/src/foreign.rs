//! A join of a table with another one by a foreign key: what its three nodes share.

use serde::{Deserialize, Serialize};

use crate::{Format, JoinKind, Projection, Selector, StoreId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignJoin {
    /// Inner or left.
    pub kind: JoinKind,
    /// The foreign key, in a row of the left table.
    pub on: Selector,
    pub value: Projection,
    pub left_key: Format,
    pub left_value: Format,
    pub right_value: Format,
}

/// Port 0 takes subscriptions under the foreign key, port 1 the rows of the right table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignLookup {
    pub join: ForeignJoin,
    /// Of the subscriptions.
    pub store: StoreId,
    /// The right table's.
    pub right: StoreId,
}

/// Port 0 takes answers under the left table's key, port 1 the rows of the left table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignResolve {
    pub join: ForeignJoin,
    /// The left table's.
    pub left: StoreId,
}
