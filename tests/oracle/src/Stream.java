import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.internals.SessionWindow;

/** What a source or step gives: a stream, a table, or a table of windows, and what its bytes are. */
record Stream(
        KStream<Bytes, Bytes> rows,
        KTable<Bytes, Bytes> table,
        KTable<Windowed<Bytes>, Bytes> windows,
        String key,
        String value,
        boolean onCommit) {

    /** Of rows that only move time. */
    static final Bytes LEFT_OUT = Forms.text("\0left out");

    static Stream rows(KStream<Bytes, Bytes> rows, String key, String value, boolean onCommit) {
        return new Stream(rows, null, null, key, value, onCommit);
    }

    static Stream table(KTable<Bytes, Bytes> table, String key, String value, boolean onCommit) {
        return new Stream(null, table, null, key, value, onCommit);
    }

    static Stream windows(KTable<Windowed<Bytes>, Bytes> windows, String key, String value, boolean onCommit) {
        return new Stream(null, null, windows, key, value, onCommit);
    }

    /** A window's key is written as JSON: `{"key":…,"start":…}`, a session's with its `end`. */
    Stream asRows() {
        if (rows != null) return this;
        if (table != null) return rows(table.toStream(), key, value, onCommit);
        String of = key;
        KStream<Windowed<Bytes>, Bytes> known = windows.toStream().filter((window, v) -> !window.key().equals(LEFT_OUT));
        return rows(known.selectKey((window, v) -> windowed(of, window)), "json", value, onCommit);
    }

    static Bytes windowed(String format, Windowed<Bytes> window) {
        var json = Forms.JSON.createObjectNode();
        json.set("key", Forms.decode(format, window.key()));
        json.put("start", window.window().start());
        // As the keys on the wire: of the windows of one step only sessions differ in length.
        if (window.window() instanceof SessionWindow) json.put("end", window.window().end());
        return Forms.text(json.toString());
    }

    /** An entry of a table of windows, as a function over rows sees it. */
    Row window(Windowed<Bytes> window, Bytes value) {
        return new Row(windowed(key, window), value, 0, null);
    }

    Row.Formats windowed() {
        return new Row.Formats("json", value);
    }

    Row.Formats formats() {
        return new Row.Formats(key, value);
    }
}
