#!/usr/bin/env bash
# One real Kafka broker from Maven jars, or a cluster of them, on loopback only.
#   kafka.sh start [--port P] [--brokers N] DIR
#                                     format once, start, wait until all answer; prints their addresses. Of several,
#                                     number K lives in DIR/K and listens on P + K - 1
#   kafka.sh again DIR[/K]            start one that was stopped with the settings that it had
#   kafka.sh stop DIR[/K]             stop it, or all, by pid, keep the data
#   kafka.sh tool NAME [ARGUMENTS…]   kafka-topics, kafka-consumer-groups, … or any class
# Controllers listen 100 above their brokers. KAFKA_HEAP: heap, 512m unless set; KAFKA_PROPS: a file appended to the
# brokers' settings; KAFKA_CACHE: where the resolved class path is kept.
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

# Settings of broker $2 of $3; the first one listens on $4.
settings() {
  local dir=$1 id=$2 brokers=$3 first=$4 port voters= k
  port=$((first + id - 1))
  for ((k = 1; k <= brokers; k++)); do voters+=${voters:+,}$k@127.0.0.1:$((first + k - 1 + 100)); done
  cat <<S
node.id=$id
process.roles=broker,controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 100))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
controller.quorum.voters=$voters
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
default.replication.factor=$brokers
min.insync.replicas=$((brokers / 2 + 1))
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$brokers
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$brokers
transaction.state.log.min.isr=$((brokers / 2 + 1))
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=$brokers
share.coordinator.state.topic.min.isr=$((brokers / 2 + 1))
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=33554432
S
  [[ -z ${KAFKA_PROPS:-} ]] || cat "$KAFKA_PROPS"
}

# The port in the settings of folder $1.
port_of() { sed -n 's|^advertised.listeners=.*:||p' "$1/server.properties"; }

running() { [[ -s $1/pid ]] && kill -0 "$(<"$1/pid")" 2>/dev/null; }

# Starts the broker whose settings lie in folder $1 and does not wait for it.
launch() {
  local dir=$1 port cp
  port=$(port_of "$dir")
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "kafka.sh: port $port is in use; choose another with --port" >&2
    exit 1
  fi
  cp=$(classpath)
  cat >"$dir/log4j2.xml" <<S
<Configuration><Appenders><Console name="out"><PatternLayout pattern="[%d] %p %m (%c{1})%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers></Configuration>
S
  local java=(java -XX:+UseSerialGC -Dlog4j2.configurationFile="$dir/log4j2.xml" -cp "$cp")
  if [[ ! -s $dir/data/meta.properties ]]; then
    "${java[@]}" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format \
      -t "$(<"$dir/cluster.id")" -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
      { cat "$dir/format.log" >&2; exit 1; }
  fi
  setsid nohup "${java[@]}" "-Xmx${KAFKA_HEAP:-512m}" kafka.Kafka "$dir/server.properties" \
    >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
}

# Waits until the broker of folder $1 answers, two minutes at most: a fresh directory takes four seconds on an idle
# machine. Its address is written beside its data.
wait_for() {
  local dir=$1 port i
  port=$(port_of "$dir")
  for ((i = 0; i < 1200; i++)); do
    running "$dir" || break
    if grep -qs 'Kafka Server started' "$dir/server.log" && answers "$port"; then
      echo "127.0.0.1:$port" >"$dir/address"
      return
    fi
    sleep 0.1
  done
  tail -40 "$dir/server.log" >&2
  return 1
}

start() {
  local port=9092 brokers=1 dir=
  while (($#)); do
    case $1 in
      --port) port=$2; shift 2 ;;
      --brokers) brokers=$2; shift 2 ;;
      *) dir=$1; shift ;;
    esac
  done
  [[ -n $dir ]] || usage
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  local k folders=()
  if ((brokers == 1)); then folders=("$dir"); else
    for ((k = 1; k <= brokers; k++)); do folders+=("$dir/$k"); done
  fi
  [[ -s $dir/cluster.id ]] || head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=' >"$dir/cluster.id"
  for k in "${!folders[@]}"; do
    local folder=${folders[k]}
    running "$folder" && continue
    mkdir -p "$folder"
    [[ $folder == "$dir" ]] || cp "$dir/cluster.id" "$folder/cluster.id"
    settings "$folder" $((k + 1)) "$brokers" "$port" >"$folder/server.properties"
    launch "$folder"
  done
  local addresses=()
  for folder in "${folders[@]}"; do
    wait_for "$folder" || { stop "$dir"; exit 1; }
    addresses+=("$(<"$folder/address")")
  done
  (IFS=, && echo "${addresses[*]}")
}

again() {
  local dir
  dir=$(cd "${1:?}" && pwd)
  running "$dir" || launch "$dir"
  wait_for "$dir"
}

stop() {
  local dir=${1:?} file pid i
  for file in "$dir"/pid "$dir"/*/pid; do
    if [[ -s $file ]]; then kill "$(<"$file")" 2>/dev/null || true; fi
  done
  for file in "$dir"/pid "$dir"/*/pid; do
    [[ -s $file ]] || continue
    pid=$(<"$file")
    for ((i = 0; i < 300; i++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    if kill -0 "$pid" 2>/dev/null; then kill -9 "$pid"; fi
    rm -f "$file" "${file%pid}address"
  done
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
  sed -n '2,10p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

command=${1:-}
shift || true
case $command in
  start) start "$@" ;;
  again) again "$@" ;;
  stop) stop "$@" ;;
  tool) tool "$@" ;;
  *) usage ;;
esac
