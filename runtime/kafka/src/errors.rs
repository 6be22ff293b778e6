//! From librdkafka's error codes to the few kinds that callers tell apart.

use crate::ffi::Cause;
use broker::{Error, ErrorKind};
use rdkafka::error::KafkaError;
use rdkafka_sys::types::RDKafkaErrorCode as Code;

pub(crate) fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::QueueFull
        | Code::WaitingForCoordinator
        | Code::WaitCache
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::Retry
        | Code::Outdated
        | Code::UnknownBroker
        | Code::NodeUpdate
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotController
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::KafkaStorageError
        | Code::ConcurrentTransactions
        | Code::IllegalGeneration
        | Code::RebalanceInProgress
        | Code::ReassignmentInProgress
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::StaleBrokerEpoch
        | Code::ThrottlingQuotaExceeded
        | Code::RebootstrapRequired => ErrorKind::Unavailable,
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::UnknownGroup
        | Code::GroupIdNotFound
        | Code::ResourceNotFound => ErrorKind::NotFound,
        Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::TransactionCoordinatorFenced
        | Code::UnknownMemberId
        | Code::FencedInstanceId
        | Code::FencedMemberEpoch
        | Code::UnreleasedInstanceId => ErrorKind::Fenced,
        Code::UnstableOffsetCommit => ErrorKind::Unstable,
        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::NoOffset => ErrorKind::OffsetOutOfRange,
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::PolicyViolation
        | Code::OffsetMetadataTooLarge
        | Code::InvalidCommitOffsetSize
        | Code::TopicAlreadyExists
        | Code::TopicDeletionDisabled
        | Code::NonEmptyGroup
        | Code::GroupSubscribedToTopic
        | Code::UnsupportedForMessageFormat
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => ErrorKind::Refused,
        Code::InvalidArgument
        | Code::Authentication
        | Code::SSL
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::SecurityDisabled
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InvalidGroupId
        | Code::UnsupportedFeature
        | Code::UnsupportedVersion => ErrorKind::Configuration,
        Code::BadMessage | Code::BadCompression => ErrorKind::Corrupt,
        _ => ErrorKind::Fatal,
    }
}

/// Any call that is no part of a transaction.
pub(crate) fn plain(doing: impl Into<String>, cause: &Cause) -> Error {
    let kind = if cause.fatal && kind_of(cause.code) != ErrorKind::Fenced {
        ErrorKind::Fatal
    } else {
        kind_of(cause.code)
    };
    Error::new(kind, doing, cause)
}

/// What a failed transactional request means for its transaction.
///
/// librdkafka has no KIP-890: after a request whose answer did not come in time a producer cannot be trusted, so that
/// is an unknown outcome whether or not the call may be repeated.
pub(crate) fn transactional(doing: impl Into<String>, cause: &Cause, is_commit: bool) -> Error {
    let kind = match kind_of(cause.code) {
        ErrorKind::Fenced if cause.fatal => ErrorKind::Fenced,
        _ if cause.fatal && is_commit => ErrorKind::UnknownOutcome,
        _ if cause.fatal => ErrorKind::Fatal,
        _ if cause.abort => ErrorKind::AbortTransaction,
        ErrorKind::Unavailable => ErrorKind::UnknownOutcome,
        _ if is_commit => ErrorKind::UnknownOutcome,
        kind => kind,
    };
    Error::new(kind, doing, cause)
}

/// What rust-rdkafka's calls say. `last` is the last complaint of the client, which says more than "transport failure".
pub(crate) fn of_crate(doing: impl Into<String>, error: &KafkaError, last: &str) -> Error {
    let kind = match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => ErrorKind::Configuration,
        other => other.rdkafka_error_code().map_or(ErrorKind::Fatal, kind_of),
    };
    with_last(kind, doing, error, last)
}

/// The text of an error with the client's last complaint, where the broker could not be reached.
pub(crate) fn with_last(kind: ErrorKind, doing: impl Into<String>, cause: impl std::fmt::Display, last: &str) -> Error {
    if kind == ErrorKind::Unavailable && !last.is_empty() {
        Error::new(kind, doing, format!("{cause} ({last})"))
    } else {
        Error::new(kind, doing, cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::Disposition;

    fn cause(code: Code, fatal: bool, abort: bool) -> Cause {
        Cause {
            fatal,
            abort,
            ..Cause::new(code, "x")
        }
    }

    #[test]
    fn a_commit_is_never_taken_for_failed_when_it_may_have_happened() {
        for (code, fatal, abort, expected) in [
            (Code::OperationTimedOut, false, false, Disposition::UnknownOutcome),
            (
                Code::InvalidTransactionalState,
                true,
                false,
                Disposition::UnknownOutcome,
            ),
            (Code::State, false, false, Disposition::UnknownOutcome),
            (Code::Fenced, true, false, Disposition::NewProducer),
            (Code::UnknownMemberId, false, true, Disposition::Abort),
            (Code::InvalidRecord, false, true, Disposition::Abort),
        ] {
            assert_eq!(
                transactional("x", &cause(code, fatal, abort), true).disposition(),
                expected,
                "{code:?}"
            );
        }
    }
}
