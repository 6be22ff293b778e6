#!/usr/bin/env bash
# One real Kafka broker from Maven jars, on loopback only.
#   kafka.sh start [--port P] DIR     format once, start, wait until it answers; prints its address
#   kafka.sh stop DIR                 stop it by pid, keep the data
#   kafka.sh tool NAME [ARGUMENTS…]   kafka-topics, kafka-consumer-groups, … or any class
# The controller listens on P + 100. KAFKA_HEAP: heap, 512m unless set; KAFKA_PROPS: a file appended to the broker's
# settings; KAFKA_CACHE: where the resolved class path is kept.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${KAFKA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wasmill/kafka}

classpath() {
  local file
  file=$cache/classpath-$(sha256sum "$here/pom.xml" | cut -c1-16)
  if [[ ! -s $file ]]; then
    mkdir -p "$cache"
    mvn -q -B -f "$here/pom.xml" dependency:build-classpath -Dmdep.outputFile="$file.$$" >&2
    mv "$file.$$" "$file"
  fi
  cat "$file"
}

# Whether the broker on port $1 answers an ApiVersions request: its log says "started" a little too early.
answers() {
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf '\0\0\0\012\0\022\0\0\0\0\0\001\377\377' >&3
  local read
  read=$(timeout 2 head -c 8 <&3 | wc -c)
  exec 3>&- 3<&-
  [[ $read == 8 ]]
} 2>/dev/null

settings() {
  local dir=$1 port=$2
  cat <<S
node.id=1
process.roles=broker,controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 100))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$((port + 100))
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=33554432
S
  [[ -z ${KAFKA_PROPS:-} ]] || cat "$KAFKA_PROPS"
}

start() {
  local port=9092 dir=
  while (($#)); do
    case $1 in
      --port) port=$2; shift 2 ;;
      *) dir=$1; shift ;;
    esac
  done
  [[ -n $dir ]] || usage
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  if [[ -s $dir/pid ]] && kill -0 "$(<"$dir/pid")" 2>/dev/null; then
    cat "$dir/address"
    return
  fi
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "kafka.sh: port $port is in use; choose another with --port" >&2
    exit 1
  fi
  local cp
  cp=$(classpath)
  settings "$dir" "$port" >"$dir/server.properties"
  cat >"$dir/log4j2.xml" <<S
<Configuration><Appenders><Console name="out"><PatternLayout pattern="[%d] %p %m (%c{1})%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers></Configuration>
S
  local java=(java -XX:+UseSerialGC -Dlog4j2.configurationFile="$dir/log4j2.xml" -cp "$cp")
  if [[ ! -s $dir/data/meta.properties ]]; then
    [[ -s $dir/cluster.id ]] ||
      head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=' >"$dir/cluster.id"
    "${java[@]}" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format \
      -t "$(<"$dir/cluster.id")" -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
      { cat "$dir/format.log" >&2; exit 1; }
  fi
  setsid nohup "${java[@]}" "-Xmx${KAFKA_HEAP:-512m}" kafka.Kafka "$dir/server.properties" \
    >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  # Two minutes: a fresh directory takes four seconds on an idle machine.
  for ((i = 0; i < 1200; i++)); do
    kill -0 "$(<"$dir/pid")" 2>/dev/null || break
    if grep -qs 'Kafka Server started' "$dir/server.log" && answers "$port"; then
      echo "127.0.0.1:$port" | tee "$dir/address"
      return
    fi
    sleep 0.1
  done
  tail -40 "$dir/server.log" >&2
  stop "$dir"
  exit 1
}

stop() {
  local dir=${1:?} pid i
  [[ -s $dir/pid ]] || return 0
  pid=$(<"$dir/pid")
  kill "$pid" 2>/dev/null || true
  for ((i = 0; i < 300; i++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  if kill -0 "$pid" 2>/dev/null; then kill -9 "$pid"; fi
  rm -f "$dir/pid" "$dir/address"
}

tool() {
  local name=${1:?} class
  shift
  case $name in
    kafka-topics) class=org.apache.kafka.tools.TopicCommand ;;
    kafka-consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    kafka-console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    kafka-console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
    kafka-transactions) class=org.apache.kafka.tools.TransactionsCommand ;;
    *) class=$name ;;
  esac
  exec java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$(classpath)" "$class" "$@"
}

usage() {
  sed -n '2,7p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

command=${1:-}
shift || true
case $command in
  start) start "$@" ;;
  stop) stop "$@" ;;
  tool) tool "$@" ;;
  *) usage ;;
esac
