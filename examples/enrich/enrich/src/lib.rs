//! Adds to each order what a service knows of its customer.
//!
//! The lookups of a batch run at the same time, and nothing is cached: the service is asked for every order. What it does
//! not know or refuses is a dead letter; what it cannot answer now is tried again.
use wasmill_guest::prelude::*;
use wasmill_guest::{Answer, Response};

/// How long an order waits for a service that has no time.
const AGAIN: Duration = seconds(1);

#[derive(Serialize, Deserialize)]
struct Order {
    customer: u64,
    amount: f64,
}

#[derive(Serialize, Deserialize)]
struct Customer {
    name: String,
    country: String,
}

#[derive(Serialize, Deserialize)]
struct Enriched {
    #[serde(flatten)]
    order: Order,
    #[serde(flatten)]
    customer: Customer,
}

struct Enrich {
    orders: Input<(), Json<Order>>,
    enriched: Output<(), Json<Enriched>>,
    customers: Http,
}

impl Processor for Enrich {
    fn declare(m: &mut Module) -> Self {
        Enrich {
            orders: m.input("orders"),
            enriched: m.output("enriched"),
            customers: m.http("asks for the customer of each order"),
        }
    }

    fn prefetch(&self, rows: &Rows) -> Result<()> {
        for order in rows.of(&self.orders) {
            let url = format!("/customers/{}", order.value.customer);
            self.customers.queue(order.row, Request::get(url));
        }
        Ok(())
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let Some(order) = row.of(&self.orders)? else {
            return done();
        };
        let customer = customer(self.customers.answer(order.row))?;
        let order = order.value;
        out.send_value(&self.enriched, Enriched { order, customer });
        done()
    }
}

/// The customer, or what is to happen with the order.
fn customer(answer: Option<Answer>) -> Result<Customer, Reject> {
    let response: Response = match answer {
        Some(Ok(response)) => response,
        Some(Err(problem)) if problem.is_transient() => return again(problem),
        Some(Err(problem)) => return Err(Reject::DeadLetter(problem.to_string())),
        None => return Err(Reject::Fail("no request was sent".to_owned())),
    };
    match response.status() {
        200 => response
            .json()
            .map_err(|error| Reject::DeadLetter(format!("what the service says is no customer: {error}"))),
        404 => Err(Reject::DeadLetter("the service knows no such customer".to_owned())),
        429 | 500.. => again(format!("the service answers {}", response.status())),
        status => Err(Reject::DeadLetter(format!("the service answers {status}"))),
    }
}

fn again(reason: impl ToString) -> Result<Customer, Reject> {
    Err(Reject::Retry {
        after: AGAIN,
        reason: reason.to_string(),
    })
}

wasmill_guest::processor!(Enrich);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_guest::{Cause, Problem};

    fn service(request: &Request) -> Answer {
        match request.url() {
            "/customers/1" => Ok(Response::new(200, r#"{"name": "Ada", "country": "GB"}"#)),
            "/customers/2" => Ok(Response::new(200, "not a customer")),
            "/customers/3" => Ok(Response::new(503, "")),
            "/customers/4" => Err(Problem::new(Cause::Denied, "`http://elsewhere` is not granted")),
            _ => Ok(Response::new(404, "")),
        }
    }

    fn order(customer: u64) -> (&'static str, Json<Order>, i64) {
        ("o", Json(Order { customer, amount: 9.5 }), 1_000)
    }

    #[test]
    fn a_batch_is_one_round_of_requests() {
        let mut t = testing::run::<Enrich>().http(service).start();
        t.pipe_batch("orders", [order(1), order(1), order(1)]);
        let sent = t.read::<(), Json<Enriched>>("enriched");
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|row| row.value.customer.name == "Ada" && row.value.order.amount == 9.5));
        assert_eq!(t.request_rounds(), [3]);
    }

    #[test]
    fn what_is_refused_is_a_dead_letter_and_leaves_the_others_alone() {
        let mut t = testing::run::<Enrich>().http(service).start();
        t.pipe_batch("orders", [order(1), order(2), order(4), order(7), order(1)]);
        assert_eq!(t.read::<(), Json<Enriched>>("enriched").len(), 2);
        let reasons: Vec<String> = t.dead_letters().into_iter().map(|letter| letter.reason.clone()).collect();
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        assert!(reasons[1].contains("not granted"), "{reasons:?}");
    }

    #[test]
    fn a_service_without_time_is_asked_again() {
        let mut t = testing::run::<Enrich>().http(service).start();
        t.pipe_batch("orders", [order(3)]);
        assert_eq!(t.rejected(testing::Kind::Retry).len(), 1);
        assert!(t.dead_letters().is_empty());
    }
}
