#!/usr/bin/env bash
# Plays the engine's cases on Kafka Streams' TopologyTestDriver, in one JVM, and prints what agrees.
#   bash tests/oracle/run.sh [--quiet] [--show] [CASE | FOLDER]…     without one: all of tests/cases/engine
#   bash tests/oracle/run.sh --random FOLDER SEED COUNT     writes COUNT drawn cases with what Kafka Streams makes of them;
#                                                           `wasmill test FOLDER` then plays them on the engine
# --show prints what Kafka Streams gives, as lines of expected.jsonl.
# Java 17 and Maven have to be there. ORACLE_JAVA: options of the JVM.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v javac >/dev/null && command -v mvn >/dev/null || {
  echo "SKIPPED: the oracle, which needs Java 17 and Maven" >&2
  exit 0
}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/oracle
classes=$target/$(cat tests/oracle/pom.xml tests/oracle/src/*.java | sha256sum | cut -c1-16)
if [[ ! -s $classes/classpath ]]; then
  mkdir -p "$classes"
  jars=$target/jars-$(sha256sum tests/oracle/pom.xml | cut -c1-16)
  if [[ ! -s $jars ]]; then
    mvn -q -B -f tests/oracle/pom.xml dependency:build-classpath -Dmdep.outputFile="$jars.$$" >&2
    mv "$jars.$$" "$jars"
  fi
  javac --release 17 -Xlint:deprecation -d "$classes" -cp "$(<"$jars")" tests/oracle/src/*.java >&2
  printf '%s:%s' "$classes" "$(<"$jars")" >"$classes/classpath"
fi
options=()
folders=0
for argument in "$@"; do
  options+=("$argument")
  [[ $argument = --* && $argument != --random ]] || folders=1
done
(( folders )) || options+=(tests/cases/engine)
# shellcheck disable=SC2086
exec java -XX:TieredStopAtLevel=1 ${ORACLE_JAVA:-} -cp "$(<"$classes/classpath")" Oracle "${options[@]}"
