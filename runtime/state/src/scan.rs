//! Ordered reads over an overlay and what is committed below it.

use crate::backend::{Backend, Bounds, Error, Visit};
use crate::index::borrowed;
use crate::overlay::Overlay;

/// A key of the overlay with its value; `None`: deleted.
type Changed<'a> = (&'a [u8], Option<&'a [u8]>);

/// Entries within `bounds` as a reader of the overlay sees them, in order, until `visit` says `false`.
pub fn merged(
    overlay: &mut Overlay,
    backend: &dyn Backend,
    store: usize,
    bounds: &Bounds,
    descending: bool,
    visit: Visit<'_>,
) -> Result<(), Error> {
    if bounds.is_empty() {
        return Ok(());
    }
    if overlay.is_empty() {
        return backend.scan(store, bounds, descending, visit);
    }
    overlay.ordered();
    let overlay = &*overlay;
    let range = overlay.range(borrowed(&bounds.lower), borrowed(&bounds.upper));
    let mut changed: Box<dyn Iterator<Item = Changed<'_>>> = if descending {
        Box::new(range.rev())
    } else {
        Box::new(range)
    };
    let mut next = changed.next();
    let mut more = true;
    backend.scan(store, bounds, descending, &mut |key, value| {
        while let Some((changed_key, changed_value)) = next {
            if changed_key == key {
                next = changed.next();
                more = changed_value.is_none_or(|v| visit(key, v));
                return more;
            }
            if (changed_key > key) != descending {
                break;
            }
            next = changed.next();
            more = changed_value.is_none_or(|v| visit(changed_key, v));
            if !more {
                return false;
            }
        }
        more = visit(key, value);
        more
    })?;
    while let (true, Some((key, value))) = (more, next) {
        more = value.is_none_or(|v| visit(key, v));
        next = changed.next();
    }
    Ok(())
}
