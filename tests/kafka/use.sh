# Sourced after setup.sh, from the project's root: WASMILL_KAFKA names a broker. Where it names none yet, one is started
# from Maven jars, and stopped when the script ends. WASMILL_KAFKA_PORT: its port, 29292 unless set.
if [[ -z ${WASMILL_KAFKA:-} ]]; then
  kafka_dir=$(mktemp -d)
  trap 'bash tests/kafka/kafka.sh stop "$kafka_dir" || true; rm -rf "$kafka_dir"' EXIT
  WASMILL_KAFKA=$(bash tests/kafka/kafka.sh start --port "${WASMILL_KAFKA_PORT:-29292}" "$kafka_dir")
  export WASMILL_KAFKA
fi
