//! Sinks that write several topics, each record to the one that an expression names.

use topology::{Format, NodeKind, Route, Sink};

use crate::build::{Builder, edge, feed};
use crate::file::SinkPart;
use crate::reader::Text;
use crate::wiring::Out;

impl Builder<'_> {
    /// A node that tells the topics apart, and a sink for each.
    pub(crate) fn route(
        &mut self,
        sink: &SinkPart,
        by: &Text,
        topics: &[Text],
        input: &Out,
        formats: (Format, Format),
    ) {
        let route = Route {
            topic: self.expression(by, input, false),
            topics: topics.iter().map(|topic| topic.text.clone()).collect(),
        };
        let name = &sink.name.text;
        let from = self.node(format!("{name}-route"), NodeKind::Route(route), vec![feed(input, 0)]);
        for (port, topic) in (0..).zip(topics) {
            self.check_own(topic);
            let node = Sink {
                topic: topic.text.clone(),
                key: formats.0,
                value: formats.1,
                create: sink.create.clone(),
            };
            self.node(
                format!("{name}-{port}"),
                NodeKind::Sink(node),
                vec![edge(from, port, 0)],
            );
        }
    }
}
