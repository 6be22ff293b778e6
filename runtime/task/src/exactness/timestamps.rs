//! Sources whose rows have other times than their records.

use topology::{Expression, Format, InvalidTime, NodeKind, TimeForm, TimeOf, Timestamps};

use super::shapes::Build;

/// Rows without a value have no time; the first ones all have one, for what takes that of the rows before it.
pub fn from_values(b: &mut Build<'_>, source: usize) {
    let expression = Expression {
        text: "timestamp < 170 ? 170 : (value == null ? -1 : timestamp + 20 * (size(value) % 3))".to_owned(),
        key: Format::Bytes,
        value: Format::Bytes,
    };
    let of = TimeOf::Expression {
        expression,
        form: TimeForm::Ms,
    };
    let invalid = [InvalidTime::Skip, InvalidTime::DeadLetter, InvalidTime::PartitionTime][b.dice.below(3) as usize];
    if let NodeKind::Source(source) = &mut b.nodes[source].kind {
        source.timestamps = Timestamps {
            of,
            invalid,
            idle_ms: None,
        };
    }
}
