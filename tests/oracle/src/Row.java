import org.apache.kafka.common.utils.Bytes;

/** What an expression sees of a record. */
record Row(Bytes key, Bytes value, long timestamp, org.apache.kafka.common.header.Headers headers) {
    record Formats(String key, String value) {}
}
