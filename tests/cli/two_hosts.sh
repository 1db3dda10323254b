#!/usr/bin/env bash
#
# Two hosts with the same line in their crontabs, and one onced between them:
#
#   two_hosts.sh ONCED DIRECTORY
#
# Each host is a network namespace with a hostname of its own, at the other end of a cable to
# the server. Both start the same job at every second, as cron would at every minute. In the
# middle one host dies at the job, with all its processes and its cable, and comes back later.
# Every tick's job must have been done once in all, and whoever asked must have its output.
#
# All of it is in namespaces of its own, which end with this script; nothing leaves the
# machine. Root or unprivileged user namespaces are needed: ends with 77 where they are not
# to be had, and with 1 where a job was done twice or never.
set -euo pipefail

# Makes the namespaces, and runs this script again in them.
enter() {
    local namespaces=(--net --mount --pid --fork --kill-child --mount-proc) why
    [[ $(id -u) -eq 0 ]] || namespaces+=(--user --map-root-user)
    if ! why=$(unshare "${namespaces[@]}" sh -ec 'mount -t tmpfs none /run; ip netns add probe
            ip link add probe0 type veth peer name probe1 netns probe' 2>&1); then
        echo "this machine has no namespaces for two hosts: ${why##*$'\n'}" >&2
        exit 77
    fi
    exec unshare "${namespaces[@]}" "$0" --inside "$@"
}

# The job of every host. It notes when it begins and ends. Once, on host-a, it hangs: at a tick
# that host-b tries as well, for a busy host may be late by more than a tick.
write_job() {
    cat >"$directory/job" <<'JOB'
#!/usr/bin/env bash
cd "${0%/*}"
host=$(hostname)
echo "$ONCED_KEY begun $host $ONCED_ATTEMPT $ONCED_TAKEOVER $ONCED_FENCING_TOKEN" >>journal
sleep 0.2
if [[ $host == host-a && -e $ONCED_KEY.host-b.out ]] && rm hang 2>/dev/null; then
    echo "$ONCED_KEY hangs" >>journal
    sleep 600
fi
echo "$ONCED_KEY done $host" >>journal
echo "output of $ONCED_KEY"
JOB
    chmod +x "$directory/job"
}

# Makes a host that reaches the server at 10.77.NUMBER.1.
make_host() {
    local host=$1 number=$2
    ip netns add "$host"
    ip link add "to-$host" type veth peer name eth0 netns "$host"
    ip address add "10.77.$number.1/24" dev "to-$host"
    ip -n "$host" address add "10.77.$number.2/24" dev eth0
    ip -n "$host" link set eth0 up
    ip link set "to-$host" up
}

# Starts a host, whose clock starts the job at every second until there is a file `stop`.
boot() {
    local host=$1 number=$2
    nsenter --net="/run/netns/$host" unshare --uts "$0" --host "$host" "$onced" "$directory" \
        "http://10.77.$number.1:50051" &
    booted[$host]=$!
}

be_host() {
    local host=$1 onced=$2 directory=$3 server=$4 now
    hostname "$host"
    while [[ ! -e $directory/stop ]]; do
        now=${EPOCHREALTIME//[.,]/}
        sleep "$(printf 0.%06d $((999999 - 10#${now: -6})))"
        try_job "$host" "$onced" "$directory" "$server" "tick-$EPOCHSECONDS" &
    done
    wait
}

# The lease is longer than a busy machine may keep a process from renewing it.
try_job() {
    local host=$1 onced=$2 directory=$3 server=$4 tick=$5 code=0
    "$onced" run "$tick" --server "$server" --namespace cron --lease 5s --wait 1m -- \
        "$directory/job" >"$directory/$tick.$host.out" 2>"$directory/$tick.$host.err" || code=$?
    echo "$code" >"$directory/$tick.$host.code"
}

# Kills whatever runs on a host; what it starts meanwhile as well.
kill_all() {
    local pids
    while pids=$(ip netns pids "$1") && [[ $pids ]]; do
        xargs kill -KILL <<<"$pids" 2>/dev/null || true
    done
}

# Waits until a command succeeds.
until_true() {
    local began=$SECONDS
    until "$@"; do
        if ((SECONDS - began > 60)); then
            echo "never came true: $*" >&2
            return 1
        fi
        sleep 0.05
    done
}

done_ticks() { grep --count ' done ' "$journal"; }

# Whether more than so many jobs were done.
has_done() { (($(done_ticks || true) > $1)); }

# Waits until so many more jobs are done.
more_ticks() { until_true has_done "$(($(done_ticks || true) + $1 - 1))"; }

# Whether more than so many ticks were tried by both hosts to the end.
both_tried() {
    local code count=0
    for code in "$directory"/tick-*.host-a.code; do
        [[ ! -e ${code/host-a/host-b} ]] || count=$((count + 1))
    done
    ((count > $1))
}

complain() {
    echo "$1" >&2
    faults=$((faults + 1))
}

check() {
    local tick begun done ticks=0 file host
    for file in "$directory"/tick-*.out; do
        tick=${file##*/}
        tick=${tick%%.*}
        host=${file%.out}
        host=${host##*.}
        # The host that died left this one without an end.
        if [[ ! -e $directory/$tick.$host.code && $host == host-a ]]; then
            continue
        fi
        [[ $(<"$directory/$tick.$host.code") == 0 && $(<"$file") == "output of $tick" ]] ||
            complain "$tick on $host: $(head "$directory/$tick.$host".*)"
    done
    for tick in $(awk '{ print $1 }' "$journal" | sort --unique); do
        ticks=$((ticks + 1))
        begun=$(grep --count "^$tick begun" "$journal" || true)
        done=$(grep --count "^$tick done" "$journal" || true)
        [[ $done == 1 ]] || complain "$tick was done $done times"
        if [[ $tick != "$hung" && $begun != 1 ]]; then
            complain "$tick was begun $begun times"
        fi
    done
    # The attempt that took over was told so, and has the higher fencing token.
    awk -v hung="$hung" '$1 == hung && $2 == "begun" { print $3, $4, $5, $6 }' "$journal" |
        { read -r _ a1 t1 f1 && read -r h2 a2 t2 f2 && ! read -r _ &&
            [[ "$a1 $t1 $h2 $a2 $t2" == "1 false host-b 2 true" && $f2 -gt $f1 ]]; } ||
        complain "the job that hung was not taken over well"
    echo "$ticks ticks, one of them taken over from a host that died"
    echo "host-a did $(grep --count 'done host-a' "$journal" || true) and host-b" \
        "$(grep --count 'done host-b' "$journal" || true)"
}

# The story.
tell() {
    declare -A booted
    faults=0
    # The first process of a namespace ignores what it has no trap for.
    trap 'exit 130' INT TERM
    mount -t tmpfs none /run
    ip link set lo up
    make_host host-a 1
    make_host host-b 2
    write_job
    : >"$journal"
    "$onced" serve --listen 0.0.0.0:50051 --insecure-any-interface --store "rocksdb:$directory/data" \
        2>"$directory/server.log" &
    until_true "$onced" health --timeout 1s >/dev/null 2>&1
    boot host-a 1
    boot host-b 2
    more_ticks 3

    touch "$directory/hang"
    until_true grep --quiet hangs "$journal"
    hung=$(awk '$2 == "hangs" { print $1 }' "$journal")
    ip link set to-host-a down
    kill_all host-a
    echo "host-a died at $hung"
    more_ticks 3

    ip link set to-host-a up
    boot host-a 1
    until_true grep --quiet "^$hung done" "$journal"
    more_ticks 3
    until_true both_tried 3
    touch "$directory/stop"
    wait "${booted[host-a]}" "${booted[host-b]}"
    check
    if ((faults > 0)); then
        cat "$journal" >&2
        exit 1
    fi
    echo "each was done once"
}

case $1 in
--inside)
    onced=$2 directory=$3 journal=$3/journal
    tell
    ;;
--host) be_host "${@:2}" ;;
*) enter "$@" ;;
esac
