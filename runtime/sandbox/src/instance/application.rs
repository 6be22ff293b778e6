//! A node of an application: the plan that its instance must agree with, and the calls of its closure.

use std::mem;

use arrow_array::BinaryArray;
use task::processor::{Answer, Context, Failure, Input, Now};
use topology::Closure;
use topology::description::World;

use super::{Instance, LoweredInput, clocks, guest_failure};
use crate::aggregate::Steps;
use crate::answer;
use crate::bindings::exports::wasmill::streams::functions;
use crate::bindings::wasmill::data::columns as wit;
use crate::closure;
use crate::columns::{self, Lowered};
use crate::description;
use crate::error::Error;
use crate::host::Phase;
use crate::module::Module;
use crate::settings;

impl Instance {
    /// Builds the closures, and compares their plan with the one that the host runs.
    pub(super) fn build(&mut self, context: &mut Context, plan: &str) -> Result<(), Failure> {
        let settings = mem::take(&mut self.settings);
        let built = settings::with_views(&settings, |views| {
            self.call(context, Phase::Build, |store, guest| {
                guest
                    .topology()
                    .map(|topology| topology.call_build(store, views))
                    .transpose()
            })
        });
        self.settings = settings;
        let Some(built) = built? else { return Ok(()) };
        let built = description::plan(built.map_err(guest_failure)?);
        if built.digest == plan {
            return Ok(());
        }
        Err(Failure::Contract(format!(
            "the topology that `{}` built is another than the one that runs, though its settings are the same\n\
             hint: an application must build the same every time: nothing random, no order of a hash map",
            self.name
        )))
    }

    /// One closure for all rows.
    pub(super) fn transform(
        &mut self,
        context: &mut Context,
        now: Now,
        input: &Input,
        by: &Closure,
    ) -> Result<Answer, Failure> {
        let lowered = LoweredInput::new(input, &self.options);
        let rows = input.batch.len();
        let answer = self.call(context, Phase::Transform, |store, guest| {
            let batch = lowered.view(input);
            guest.functions()?.call_transform(store, by.number, clocks(now), batch)
        })?;
        let broken = |broken| Failure::Contract(format!("the answer of `transform` {broken}"));
        let answer = answer::lift(answer.map_err(guest_failure)?, rows, self.outputs).map_err(broken)?;
        closure::check(by.form, &answer, rows).map_err(broken)?;
        Ok(answer)
    }

    /// The rows' keys have their values in the node's only store.
    pub(super) fn aggregate(&mut self, context: &mut Context, input: &Input, by: &Closure) -> Result<Answer, Failure> {
        let number = context.store_of.first().copied();
        let number = number.ok_or_else(|| Failure::Host("an aggregate without a store".to_owned()))?;
        let steps = Steps::new(&input.batch, &mut context.stores, number)?;
        if steps.is_empty() {
            let none = BinaryArray::new_null(0);
            return steps.settle(&none, Vec::new(), &mut context.stores, number);
        }
        let (keys, values) = (Lowered::new(steps.rows.keys()), Lowered::new(steps.rows.values()));
        let (slot_keys, aggregates) = (Lowered::new(&steps.keys), Lowered::new(&steps.aggregates));
        let kinds = vec![0; steps.slots.len()];
        let answer = self.call(context, Phase::Aggregate, |store, guest| {
            let rows = wit::Batch {
                keys: keys.view(),
                values: values.view(),
                timestamps: steps.rows.timestamps(),
                stream_times: None,
                headers: None,
                origin: None,
            };
            let work = functions::Aggregation {
                rows,
                keys: slot_keys.view(),
                aggregates: aggregates.view(),
                kinds: &kinds,
                slots: &steps.slots,
                operands: &steps.operands,
                every_step: true,
            };
            guest.functions()?.call_aggregate(store, by.number, work)
        })?;
        let answer = answer.map_err(guest_failure)?;
        let broken = |broken| Failure::Contract(format!("the answer of `aggregate` {broken}"));
        let values = columns::lift("`values`", answer.values).map_err(broken)?;
        let outcomes = answer::lift_outcomes(answer.outcomes, steps.rows.len()).map_err(broken)?;
        steps.settle(&values, outcomes, &mut context.stores, number)
    }
}

/// A closure is an application's, a whole step a processor's.
pub(super) fn fits(module: &Module, closure: Option<&Closure>) -> Result<(), Error> {
    let (is, needs) = match (module.description().world, closure) {
        (World::Application, Some(_)) | (World::Processor, None) => return Ok(()),
        (World::Application, None) => ("an application", "a processor"),
        (World::Processor, Some(_)) => ("a processor", "an application"),
    };
    let module = module.name();
    Err(Error::World { module, is, needs })
}
