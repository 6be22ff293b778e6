import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/**
 * A pipeline file drawn from a seed: stateless steps, tables, aggregates, windows, suppress, joins, also with a global table.
 *
 * One source, so that the order of inputs is that of arrival; what two lines of steps do together (merge, join) they do
 * only where no repartition topic lies between them, since no order holds across one.
 */
final class RandomPipeline {
    /** What values are: `{n?, k?}`; a number; an object of a join. */
    private enum Values { FIELDS, NUMBER, PAIR }

    /**
     * The rows of a step. Lines of one `part` come of the source without a topic between them; `moved`: under another key
     * than they are partitioned by.
     */
    private record Line(String name, Values values, int part, boolean moved) {
        Line as(String name, Values values) {
            return new Line(name, values, part, moved);
        }
    }

    private final Random random;
    private final StringBuilder file = new StringBuilder();
    private final List<Line> streams = new ArrayList<>();
    private final List<Line> tables = new ArrayList<>();
    /** Sinks without an order: rows that found no match go on when Kafka Streams happens to look. */
    final List<String> anyOrder = new ArrayList<>();
    /** Whether there is a global table. */
    final boolean global;
    private int steps;
    private int parts;

    RandomPipeline(long seed, Random random) {
        this.random = random;
        file.append("# Drawn from seed ").append(seed).append(".\nwasmill = 1\nname = \"random-").append(seed)
            .append("\"\n\n[sources.in]\ntopic = \"in\"\nkey = \"string\"\nvalue = \"json\"\n");
        streams.add(new Line("in", Values.FIELDS, 0, false));
        global = random.nextInt(3) == 0;
        if (global) {
            file.append("\n[sources.global]\ntopic = \"global\"\nkey = \"string\"\nvalue = \"json\"\nas = \"global-table\"\n");
        }
        int count = 1 + random.nextInt(7);
        for (int i = 0; i < count; i++) {
            switch (random.nextInt(5)) {
                case 0, 1 -> stateless(streams.get(random.nextInt(streams.size())));
                case 2 -> aggregate(streams.get(random.nextInt(streams.size())));
                case 3 -> join();
                default -> window(streams.get(random.nextInt(streams.size())));
            }
        }
        for (Line line : streams) {
            if (line.name().equals("in") || random.nextInt(3) == 0 && steps > 1) continue;
            sink(line.name());
        }
        if (!file.toString().contains("[sinks.")) sink(streams.get(streams.size() - 1).name());
    }

    String text() {
        return file.toString();
    }

    private String pick(String... of) {
        return of[random.nextInt(of.length)];
    }

    private void stateless(Line from) {
        String name = "s" + ++steps;
        Line other = near(streams, from, from.values());
        switch (random.nextInt(from.values() == Values.FIELDS ? 5 : 4)) {
            case 0 -> {
                if (other == null || other.moved() != from.moved()) {
                    filter(name, from);
                } else {
                    begin(name, "merge", "[\"" + from.name() + "\", \"" + other.name() + "\"]");
                    streams.add(from.as(name, from.values()));
                }
            }
            case 1 -> filter(name, from);
            case 2 -> {
                begin(name, "map-values", quoted(from));
                line("value", switch (from.values()) {
                    case NUMBER -> "value == null ? dyn(null) : value * 2";
                    case FIELDS -> "value == null ? dyn(null) : {'n': has(value.n) ? value.n + 1 : 0, 'k': key}";
                    case PAIR -> "value == null ? dyn(null) : {'n': value.left == null ? 1 : 3, 'k': 'p'}";
                });
                if (from.values() == Values.NUMBER) line("result", "i64");
                streams.add(from.as(name, from.values() == Values.NUMBER ? Values.NUMBER : Values.FIELDS));
            }
            case 3 -> {
                begin(name, "select-key", quoted(from));
                line("key", pick("key == null ? 'none' : key + key", "value == null ? dyn(null) : 'k'", "'one'"));
                streams.add(new Line(name, from.values(), ++parts, true));
            }
            default -> {
                begin(name, "flat-map-values", quoted(from));
                line("each", "value == null || !has(value.n) ? [] : [value, {'n': value.n * 10}]");
                streams.add(from.as(name, Values.FIELDS));
            }
        }
    }

    private void filter(String name, Line from) {
        begin(name, pick("filter", "filter-not"), quoted(from));
        line("where", switch (from.values()) {
            case NUMBER -> "value != null && value > 2";
            case FIELDS -> "value != null && has(value.n) && value.n > 2";
            case PAIR -> "value != null && value.right != null";
        });
        streams.add(from.as(name, from.values()));
    }

    private void aggregate(Line from) {
        String name = "s" + ++steps;
        boolean fields = from.values() == Values.FIELDS;
        int kind = random.nextInt(fields ? 4 : 2);
        boolean grouped = fields && kind > 0 && random.nextBoolean();
        switch (kind) {
            case 0 -> begin(name, pick("to-table", "last"), quoted(from));
            case 1 -> begin(name, "count", quoted(from));
            default -> {
                begin(name, pick("sum", "min", "max"), quoted(from));
                line("of", "value.n");
                line("result", "i64");
            }
        }
        if (grouped) line("group-by", "value.k");
        if (kind == 1 && random.nextInt(4) == 0) {
            // What a step makes of the last updates is not the last of what it makes of each.
            line("emit", "on-commit");
            sink(name);
            return;
        }
        table(new Line(name, kind == 0 ? from.values() : Values.NUMBER, partOf(from, grouped), false));
        if (random.nextInt(3) == 0) ofTable(tables.get(tables.size() - 1));
    }

    /** A table, whose changes go on as a stream. */
    private void table(Line table) {
        tables.add(table);
        begin(table.name() + "-rows", "to-stream", quoted(table));
        streams.add(table.as(table.name() + "-rows", table.values()));
    }

    private int partOf(Line from, boolean grouped) {
        return from.moved() || grouped ? ++parts : from.part();
    }

    /** A table of a table, or one that is held back. */
    private void ofTable(Line from) {
        String name = "s" + ++steps;
        if (random.nextBoolean()) {
            begin(name, "suppress", quoted(from));
            line("until", pick("0ms", "3ms", "8ms"));
            if (random.nextBoolean()) file.append("max-records = ").append(1 + random.nextInt(3)).append('\n');
            sink(name);
            return;
        }
        // Where there may be nothing to sum on either side of a change, Kafka Streams repeats the sum and we say nothing.
        boolean sums = from.values() == Values.NUMBER && random.nextBoolean();
        begin(name, sums ? "sum" : "count", quoted(from));
        line("group-by", from.values() == Values.FIELDS ? "value.k" : "key");
        table(new Line(name, Values.NUMBER, ++parts, false));
    }

    private void window(Line from) {
        String name = "s" + ++steps;
        boolean fields = from.values() == Values.FIELDS;
        int emits = random.nextInt(5);
        // What Kafka Streams is given for a row without what is aggregated moves the time of `suppress`; ours does not.
        switch (random.nextInt(fields && emits != 4 ? 4 : 2)) {
            case 0, 1 -> begin(name, "count", quoted(from));
            case 2 -> {
                begin(name, pick("sum", "min", "max"), quoted(from));
                line("of", "value.n");
                line("result", "i64");
            }
            default -> begin(name, pick("first", "last"), quoted(from));
        }
        if (fields && random.nextInt(3) == 0) line("group-by", "value.k");
        // The oracle keeps what goes on when it closes for a day.
        String grace = ", grace = \"" + pick("0ms", "3ms", "12ms") + (emits == 3 ? "\", retention = \"1d\" }" : "\" }");
        String window = switch (random.nextInt(6)) {
            case 0, 1 -> "{ tumbling = \"" + pick("1ms", "5ms", "10ms") + '"' + grace;
            case 2 -> "{ hopping = \"10ms\", advance = \"" + pick("3ms", "5ms", "9ms") + '"' + grace;
            case 3, 4 -> "{ session = \"" + pick("1ms", "4ms", "9ms") + '"' + grace;
            default -> "\"unlimited\"";
        };
        file.append("window = ").append(window).append('\n');
        boolean closes = window.startsWith("{");
        switch (closes ? emits : emits % 2) {
            case 0 -> {
                line("emit", "on-commit");
                sink(name);
            }
            case 1, 2 -> sink(name);
            case 3 -> {
                line("emit", "on-close");
                sink(name);
            }
            default -> {
                begin(name + "-held", "suppress", '"' + name + '"');
                line("until", "window-closes");
                sink(name + "-held");
                if (random.nextBoolean()) sink(name);
            }
        }
    }

    private void join() {
        Line left = pickFrom(streams);
        if (global && random.nextInt(3) > 0) {
            globalJoin(left);
            return;
        }
        switch (random.nextInt(4)) {
            case 0 -> {
                if (tables.isEmpty()) return;
                Line first = pickFrom(tables);
                Line second = near(tables, first, null);
                if (second == null) return;
                String name = "s" + ++steps;
                joined(name, first, second, pick("inner", "left", "outer"));
                table(new Line(name, Values.PAIR, first.part(), false));
            }
            case 1 -> {
                Line right = left.moved() ? null : near(tables, left, null);
                if (right == null) return;
                String name = "s" + ++steps;
                joined(name, left, right, pick("inner", "left"));
                streams.add(left.as(name, Values.PAIR));
            }
            case 2 -> {
                Line right = near(streams, left, null);
                if (left.moved() || right == null || right.moved()) return;
                String name = "s" + ++steps;
                joined(name, left, right, "inner");
                span();
                streams.add(left.as(name, Values.PAIR));
            }
            default -> unmatched();
        }
    }

    /** Its rows keep their keys, so nothing is moved by it. */
    private void globalJoin(Line left) {
        String name = "s" + ++steps;
        joined(name, left, new Line("global", Values.FIELDS, 0, false), pick("inner", "left"));
        switch (random.nextInt(left.values() == Values.FIELDS ? 4 : 2)) {
            case 0 -> {}
            case 1 -> line("on", "key == null || key == 'b' ? dyn(null) : key");
            case 2 -> line("on", "value.k");
            default -> line("on", "value == null ? dyn(null) : has(value.k) ? value.k : 'a'");
        }
        streams.add(left.as(name, Values.PAIR));
    }

    /** Of two sides that the inputs are sure to flush: see {@link RandomCases}. */
    private void unmatched() {
        String name = "s" + ++steps;
        for (String side : List.of("x", "y")) {
            begin(name + "-" + side, "filter", "\"in\"");
            line("where", "value != null && has(value.k) && value.k == '" + side + "'");
        }
        Line left = new Line(name + "-x", Values.FIELDS, 0, false);
        joined(name, left, left.as(name + "-y", Values.FIELDS), pick("left", "outer"));
        span();
        sink(name);
        anyOrder.add("out-" + name);
    }

    private void joined(String name, Line left, Line right, String kind) {
        file.append("\n[steps.").append(name).append("]\nop = \"join\"\nkind = \"").append(kind).append("\"\nleft = ")
            .append(quoted(left)).append("\nright = ").append(quoted(right)).append('\n');
    }

    private void span() {
        if (random.nextInt(3) == 0) {
            line("before", pick("0ms", "2ms", "9ms"));
            line("after", pick("0ms", "3ms", "6ms"));
        } else {
            line("within", pick("0ms", "2ms", "7ms"));
        }
        line("grace", pick("0ms", "4ms"));
    }

    private Line pickFrom(List<Line> lines) {
        return lines.get(random.nextInt(lines.size()));
    }

    /** Another line in the same part, with these values. */
    private Line near(List<Line> lines, Line from, Values values) {
        List<Line> found = lines.stream()
            .filter(other -> !other.name().equals(from.name()) && other.part() == from.part())
            .filter(other -> values == null || other.values() == values)
            .toList();
        return found.isEmpty() ? null : pickFrom(found);
    }

    private void sink(String name) {
        file.append("\n[sinks.").append(name).append("]\nfrom = \"").append(name).append("\"\ntopic = \"out-")
            .append(name).append("\"\n");
    }

    private static String quoted(Line from) {
        return '"' + from.name() + '"';
    }

    private void begin(String name, String op, String from) {
        file.append("\n[steps.").append(name).append("]\nop = \"").append(op).append("\"\nfrom = ").append(from).append('\n');
    }

    private void line(String key, String value) {
        file.append(key).append(" = \"").append(value).append("\"\n");
    }
}
