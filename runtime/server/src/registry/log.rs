//! Reading and writing the control topic.

use super::records::{Entry, View};
use super::{CHUNK_BYTES_MAX, MODULE_BYTES_MAX};
use broker::{
    Broker, Cleanup, Consumer, ConsumerOptions, Disposition, Isolation, NewTopic, OffsetAt, Partitioning, Producer,
    ProducerOptions,
};
use record::{BatchBuilder, Fetched, TopicPartition};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Another writer may come first this often before the caller is told to try again.
const ATTEMPTS_MAX: usize = 8;
/// The end of a topic of some hundred records is reached in milliseconds; this is for a broker in trouble.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const RECORDS_PER_POLL: usize = 1_000;
const QUEUE_BYTES_MAX: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// What the caller's validation said.
    #[error("{0}")]
    Refused(String),
    #[error("the record `{key}` of the control topic cannot be read: {cause}")]
    Record { key: String, cause: String },
    #[error("read `{0}` to its end within {READ_TIMEOUT:?}")]
    Timeout(String),
    #[error("module {digest} is incomplete: {cause}")]
    Module { digest: String, cause: String },
    #[error("the control topic is written by others all the time: gave up after {ATTEMPTS_MAX} attempts")]
    Contended,
}

/// One node's view of the control topic, and its writer.
pub struct Registry {
    broker: Arc<dyn Broker>,
    node: String,
    control: TopicPartition,
    modules: TopicPartition,
    writer_id: String,
    reader: Box<dyn Consumer>,
    /// Kept warm; `None` before the first write and after a fencing.
    writer: Option<Box<dyn Producer>>,
    view: View,
}

impl Registry {
    /// Creates the topics where they are missing and reads the control topic to its end.
    ///
    /// # Errors
    /// [`Error::Broker`], or [`Error::Record`] when a record was not written by us.
    pub fn open(broker: Arc<dyn Broker>, cluster: &str, node: &str) -> Result<Self, Error> {
        let control = TopicPartition::new(super::control_topic(cluster), 0);
        let modules = TopicPartition::new(format!("wasmill-{cluster}-modules"), 0);
        let topic = |partition: &TopicPartition| NewTopic {
            name: partition.topic.to_string(),
            partitions: 1,
            cleanup: Cleanup::Compact,
            settings: BTreeMap::new(),
        };
        broker.admin()?.create(&[topic(&control), topic(&modules)])?;
        let mut reader = consumer(&*broker, node)?;
        reader.assign(&[(control.clone(), 0)])?;
        let writer_id = format!("wasmill-{cluster}-control");
        let mut registry = Self {
            broker,
            node: node.to_owned(),
            control,
            modules,
            writer_id,
            reader,
            writer: None,
            view: View::default(),
        };
        registry.refresh()?;
        Ok(registry)
    }

    /// As of the last [`Registry::refresh`] or [`Registry::write`].
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Reads on to the end. Whether anything changed.
    ///
    /// # Errors
    /// [`Error::Broker`], [`Error::Timeout`] or [`Error::Record`].
    pub fn refresh(&mut self) -> Result<bool, Error> {
        self.read_on(Isolation::ReadCommitted)
    }

    /// To where the log ends now; `ReadUncommitted` waits for transactions that are being committed.
    fn read_on(&mut self, end: Isolation) -> Result<bool, Error> {
        let end = self
            .broker
            .admin()?
            .offsets(std::slice::from_ref(&self.control), OffsetAt::End(end))?;
        self.read_to(end.first().copied().unwrap_or(0))
    }

    fn read_to(&mut self, end: i64) -> Result<bool, Error> {
        let mut changed = false;
        let view = &mut self.view;
        read_to(&mut *self.reader, &self.control, end, |key, value| {
            changed = true;
            view.apply(key, value)
        })?;
        Ok(changed)
    }

    /// Compare and set: `change` sees the newest view and says what to write, or refuses. Returns with the records read
    /// back. `change` may be called again when another writer came first.
    ///
    /// # Errors
    /// [`Error::Refused`] as `change` said, [`Error::Broker`], or [`Error::Contended`].
    pub fn write(
        &mut self,
        mut change: impl FnMut(&View) -> Result<Vec<(String, Option<Entry>)>, String>,
    ) -> Result<(), Error> {
        for attempt in 0..ATTEMPTS_MAX {
            match self.try_write(&mut change) {
                Ok(()) => return Ok(()),
                Err(Error::Broker(error)) => {
                    self.writer = None;
                    match error.disposition() {
                        Disposition::Stop => return Err(error.into()),
                        // Fenced, aborted, timed out or unknown: the next attempt reads what is there and decides anew.
                        _ => std::thread::sleep(Duration::from_millis(20 * (attempt as u64 + 1))),
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Err(Error::Contended)
    }

    fn try_write(
        &mut self,
        change: &mut impl FnMut(&View) -> Result<Vec<(String, Option<Entry>)>, String>,
    ) -> Result<(), Error> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.new_writer()?,
        };
        self.read_on(Isolation::ReadUncommitted)?;
        let entries = change(&self.view).map_err(Error::Refused)?;
        if entries.is_empty() {
            self.writer = Some(writer);
            return Ok(());
        }
        let mut rows = BatchBuilder::default();
        for (key, entry) in &entries {
            let value = entry.as_ref().map(Entry::to_json);
            rows.push(Some(key.as_bytes()), value.as_deref(), now_ms());
        }
        writer.begin()?;
        writer.send(&self.control.topic, Partitioning::Fixed(0), &rows.finish(), 0)?;
        writer.commit()?;
        // Not the read-committed end of now: the marker may reach the partition after the commit was answered.
        let written = writer
            .take_delivered()
            .into_iter()
            .find(|(partition, _)| *partition == self.control);
        self.writer = Some(writer);
        let end = written.map_or(0, |(_, offset)| offset + 1);
        self.read_to(end)?;
        Ok(())
    }

    fn new_writer(&self) -> Result<Box<dyn Producer>, Error> {
        let mut writer = self.broker.producer(&ProducerOptions {
            client_id: format!("{}-control", self.node),
            transactional_id: Some(self.writer_id.clone()),
            transaction_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(10),
            upserts_only: false,
        })?;
        writer.init()?;
        Ok(writer)
    }

    /// Writes the bytes of a module, chunk by chunk. To be done before the record that names the digest.
    ///
    /// # Errors
    /// [`Error::Refused`] over [`MODULE_BYTES_MAX`], [`Error::Broker`].
    pub fn put_module(&mut self, digest: &str, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > MODULE_BYTES_MAX {
            return Err(Error::Refused(format!(
                "the module has {} bytes, at most {MODULE_BYTES_MAX} are taken",
                bytes.len()
            )));
        }
        let mut producer = self.broker.producer(&ProducerOptions {
            client_id: format!("{}-modules", self.node),
            transactional_id: None,
            transaction_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(30),
            upserts_only: false,
        })?;
        producer.init()?;
        let chunks = bytes.chunks(CHUNK_BYTES_MAX);
        let count = chunks.len();
        for (number, chunk) in chunks.enumerate() {
            let mut row = BatchBuilder::default();
            row.push(
                Some(format!("{digest}:{number}/{count}").as_bytes()),
                Some(chunk),
                now_ms(),
            );
            producer.send(
                &self.modules.topic,
                Partitioning::Fixed(0),
                &row.finish(),
                number as u64,
            )?;
        }
        producer.flush(READ_TIMEOUT)?;
        match producer.take_failures().into_iter().next() {
            Some(failure) => Err(failure.error.into()),
            None => Ok(()),
        }
    }

    /// The bytes of a module, checked against its digest.
    ///
    /// # Errors
    /// [`Error::Module`] when chunks are missing or do not give the digest, [`Error::Broker`].
    pub fn module_bytes(&self, digest: &str) -> Result<Vec<u8>, Error> {
        let end = self.broker.admin()?.offsets(
            std::slice::from_ref(&self.modules),
            OffsetAt::End(Isolation::ReadCommitted),
        )?;
        let mut reader = consumer(&*self.broker, &self.node)?;
        reader.assign(&[(self.modules.clone(), 0)])?;
        let mut chunks: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        read_to(
            &mut *reader,
            &self.modules,
            end.first().copied().unwrap_or(0),
            |key, value| {
                let number = key
                    .strip_prefix(digest)
                    .and_then(|rest| rest.strip_prefix(':'))
                    .and_then(|rest| rest.split('/').next())
                    .and_then(|number| number.parse().ok());
                if let (Some(number), Some(value)) = (number, value) {
                    chunks.insert(number, value.to_vec());
                }
                Ok(())
            },
        )?;
        let bytes = chunks.into_values().collect::<Vec<_>>().concat();
        let found = digest_of(&bytes);
        if found == digest {
            Ok(bytes)
        } else {
            let cause = format!("its chunks have {} bytes and digest {found}", bytes.len());
            Err(Error::Module {
                digest: digest.to_owned(),
                cause,
            })
        }
    }
}

/// Hex sha-256, as modules are known by.
pub fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn consumer(broker: &dyn Broker, node: &str) -> Result<Box<dyn Consumer>, broker::Error> {
    broker.consumer(&ConsumerOptions {
        group: None,
        client_id: format!("{node}-control"),
        isolation: Isolation::ReadCommitted,
        queue_bytes_max: QUEUE_BYTES_MAX,
        headers: false,
    })
}

/// Hands every record below `end` to `each`.
fn read_to(
    reader: &mut dyn Consumer,
    partition: &TopicPartition,
    end: i64,
    mut each: impl FnMut(&str, Option<&[u8]>) -> Result<(), Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + READ_TIMEOUT;
    let mut fetched: Vec<Fetched> = Vec::new();
    while reader.position(partition)?.unwrap_or(0) < end {
        if Instant::now() > deadline {
            return Err(Error::Timeout(partition.topic.to_string()));
        }
        reader.poll(Duration::from_millis(50), RECORDS_PER_POLL, &mut fetched)?;
        for batch in fetched.drain(..) {
            for row in 0..batch.records.len() {
                let key = String::from_utf8_lossy(batch.records.key(row).unwrap_or_default());
                each(&key, batch.records.value(row))?;
            }
        }
    }
    Ok(())
}

/// Wall time in milliseconds since 1970 UTC.
pub fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}
