//! A list of partitions with offsets and metadata, as librdkafka takes and returns them.

use super::{Cause, c_string, text};
use rdkafka_sys as sys;
use rdkafka_sys::types::RDKafkaErrorCode;
use std::ptr::NonNull;

/// One element, copied out.
#[derive(Clone, Debug)]
pub struct Entry {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
    pub error: Option<Cause>,
}

pub struct PartitionList {
    list: NonNull<sys::rd_kafka_topic_partition_list_t>,
}

// SAFETY: the list is plain memory that only this handle points to.
unsafe impl Send for PartitionList {}

impl PartitionList {
    pub fn new(capacity: usize) -> Result<Self, Cause> {
        // SAFETY: no preconditions; the result is ours to destroy.
        let list = unsafe { sys::rd_kafka_topic_partition_list_new(i32::try_from(capacity).unwrap_or(0)) };
        let list = NonNull::new(list).ok_or_else(|| {
            Cause::new(
                RDKafkaErrorCode::CriticalSystemResource,
                "no memory for a partition list",
            )
        })?;
        Ok(Self { list })
    }

    pub fn of<'a>(entries: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Result<Self, Cause> {
        let mut list = Self::new(8)?;
        for (topic, partition, offset) in entries {
            list.add(topic, partition, offset, "")?;
        }
        Ok(list)
    }

    pub fn add(&mut self, topic: &str, partition: i32, offset: i64, metadata: &str) -> Result<(), Cause> {
        let topic = c_string(topic)?;
        // SAFETY: the list is live and exclusively ours; the new element is valid until the next `add`. Its metadata
        // is freed by librdkafka with `free`, so it must come from `malloc`, of exactly the size that is stated.
        unsafe {
            let element = sys::rd_kafka_topic_partition_list_add(self.list.as_ptr(), topic.as_ptr(), partition);
            (*element).offset = offset;
            if !metadata.is_empty() {
                let copy = libc::malloc(metadata.len());
                if copy.is_null() {
                    return Err(Cause::new(
                        RDKafkaErrorCode::CriticalSystemResource,
                        "no memory for offset metadata",
                    ));
                }
                std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                (*element).metadata = copy;
                (*element).metadata_size = metadata.len();
            }
        }
        Ok(())
    }

    pub fn entries(&self) -> Vec<Entry> {
        // SAFETY: the list is live for as long as `self` is borrowed.
        unsafe { entries(self.list.as_ptr()) }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.list.as_ptr()
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.list.as_ptr()) };
    }
}

/// # Safety
/// `list` is null or a live list that nobody changes during the call.
pub(super) unsafe fn entries(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Entry> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a live list holds `cnt` elements at `elems`.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count).map(|i| entry((*list).elems.add(i))).collect()
    }
}

/// # Safety
/// `element` points to a live element.
pub(super) unsafe fn entry(element: *const sys::rd_kafka_topic_partition_t) -> Entry {
    // SAFETY: live by the contract; metadata is `metadata_size` bytes when it is not null.
    unsafe {
        let e = &*element;
        let metadata = if e.metadata.is_null() || e.metadata_size == 0 {
            String::new()
        } else {
            let bytes = std::slice::from_raw_parts(e.metadata.cast::<u8>(), e.metadata_size);
            String::from_utf8_lossy(bytes).into_owned()
        };
        let error = super::check_code(e.err).err();
        Entry {
            topic: text(e.topic),
            partition: e.partition,
            offset: e.offset,
            metadata,
            error,
        }
    }
}
