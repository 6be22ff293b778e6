# Sourced after setup.sh, from the project's root: WASMILL_KAFKA names a broker. Where it names none yet, one is started
# from Maven jars, or as many as WASMILL_KAFKA_BROKERS says, and stopped when the script ends. Their folder is
# WASMILL_KAFKA_DIR then. WASMILL_KAFKA_PORT: the port of the first, 29292 unless set.
if [[ -z ${WASMILL_KAFKA:-} ]]; then
  WASMILL_KAFKA_DIR=$(mktemp -d)
  trap 'bash tests/kafka/kafka.sh stop "$WASMILL_KAFKA_DIR" || true; rm -rf "$WASMILL_KAFKA_DIR"' EXIT
  WASMILL_KAFKA=$(bash tests/kafka/kafka.sh start --port "${WASMILL_KAFKA_PORT:-29292}" \
    --brokers "${WASMILL_KAFKA_BROKERS:-1}" "$WASMILL_KAFKA_DIR")
  export WASMILL_KAFKA WASMILL_KAFKA_DIR
fi
