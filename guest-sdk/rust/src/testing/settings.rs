//! What the host does with parameters before it opens a module: unknown names and missing values are refused.
//! (Bounds and types are not checked here; the module sees a wrong type itself.)

use crate::bindings::wasmill::streams::description::{Description, Setting};

/// The settings that were given. Defaults are left to the module's own declaration, which is where they come from.
pub(crate) fn complete(description: &Description, given: Vec<Setting>) -> Result<Vec<Setting>, String> {
    for setting in &given {
        if !description
            .parameters
            .iter()
            .any(|parameter| parameter.name == setting.name)
        {
            return Err(format!("the module has no parameter `{}`", setting.name));
        }
    }
    Ok(given)
}
