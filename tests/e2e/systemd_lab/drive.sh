#!/bin/bash
# What an operator does, as docs/install.md says, with what came of it in /run/lab/results.
results=/run/lab/results
lab=/opt/ironclad/source/tests/e2e/systemd_lab
trap 'touch $results/over' EXIT
set -ex
as_ironclad() { setpriv --reuid ironclad --regid ironclad --init-groups "$@"; }
answers() { /opt/ironclad/bin/python -c "import urllib.request as r; print(r.urlopen('http://127.0.0.1:$1/health/live', timeout=60).status)" 2>&1 | tail -1; }
show() { systemctl show -p Id -p ActiveState -p SubState -p Result -p NRestarts -p MainPID -p ExecMainStatus "$@"; }

# The control API is for those who want it.
install -d /etc/ironclad
printf 'data_dir = "/var/lib/ironclad"\n[api]\nenabled = true\n' > /etc/ironclad/ironclad.toml
/opt/ironclad/bin/ironclad install systemd --program /opt/ironclad/bin/ironclad > $results/installed
systemd-sysusers /etc/sysusers.d/ironclad.conf
systemd-tmpfiles --create /etc/tmpfiles.d/ironclad.conf
install -m 640 -g ironclad /dev/null /etc/ironclad/secrets/not_a_setting
{ set +x; } 2> /dev/null
secret=SECRET$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')
echo "$secret" > /etc/ironclad/secrets/not_a_setting
set -x
systemctl daemon-reload
date +%s.%N > $results/begun
systemctl enable --now ironclad.target
date +%s.%N > $results/ready
units='ironclad-postgres ironclad-schema ironclad-prefect ironclad-watch ironclad-dispatch ironclad-notify ironclad-api ironclad-worker@cpu'
show $units > $results/started
for unit in $units; do
    pid=$(systemctl show -P MainPID $unit)
    [ "$pid" = 0 ] && continue
    { grep -E '^(Uid|CapBnd|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/$pid/status
      tr '\0' '\n' < /proc/$pid/environ | grep CREDENTIALS_DIRECTORY || true
      readlink /proc/$pid/ns/net /proc/$pid/ns/user; } > $results/status-$unit
done
readlink /proc/self/ns/net /proc/self/ns/user > $results/namespaces
for port in 9641 9648; do answers $port; done > $results/answers
# A worker's restrictions, and what can be seen through them.
{ /opt/ironclad/bin/python -c "from ironclad import processes as p; print('/'.join((p._namespace(), '$(systemctl show -P MainPID ironclad-dispatch)', p.identity($(systemctl show -P MainPID ironclad-dispatch)))))"
  sleep 0 & wait $!; /opt/ironclad/bin/python -c "from ironclad import processes as p; print('/'.join((p._namespace(), '$!', p._boot(), '1')))"; } > $results/others
sed -e 's/^Type=.*/Type=oneshot/' -e '/^Restart/d' -e '/^WatchdogSec=/d' -e 's/%i/probe/g' \
    -e "s#^ExecStart=.*#ExecStart=/opt/ironclad/bin/python $lab/probe.py $results/others#" \
    /etc/systemd/system/ironclad-worker@.service > /run/lab/units/probe.service
systemctl daemon-reload
systemctl start probe || true
ls /run/credentials/ironclad-watch.service > $results/credentials

as_ironclad /opt/ironclad/bin/ironclad demo-songs /var/lib/ironclad/songs
song=$(find /var/lib/ironclad/songs -name '*.flac' -not -path '*stems*' | sort | head -1)
as_ironclad install -D -m 640 "$song" /var/lib/ironclad/beside/song.flac
as_ironclad mkdir -p /var/lib/ironclad/input/ana
as_ironclad mv /var/lib/ironclad/beside/song.flac /var/lib/ironclad/input/ana/
# A member of the group with another account drops one, too.
setpriv --reuid 20001 --regid ironclad --clear-groups install -m 640 "$song" /var/lib/ironclad/input/again.flac
# A program sends one by the control API, with a token of its own.
{ set +x; } 2> /dev/null
token=$(as_ironclad /opt/ironclad/bin/ironclad api tokens create --user ben --role submit --label lab 2> /dev/null)
send() { printf 'header = "Authorization: Bearer %s"\n' "$1" | curl --silent --show-error --max-time 120 --config - \
    --data-binary "@$song" --header 'Content-Type: application/octet-stream' --write-out '\n%{http_code}\n' \
    "http://127.0.0.1:9700/v1/songs?name=sent.flac&force=true"; }
send "$token" > $results/sent 2>&1 || true
send wrong > $results/unsent 2>&1 || true
set -x
for _ in $(seq 1200); do
    [ -n "$(find /var/lib/ironclad/output -name '*.flac' -not -name '.*')" ] && [ ! -e /var/lib/ironclad/input/again.flac ] && break
    sleep 0.2
done
find /var/lib/ironclad/input -type f > $results/untaken
find /var/lib/ironclad/output -type f -printf '%M %u %p\n' > $results/published
as_ironclad /opt/ironclad/bin/ironclad status --json > $results/queue.json
as_ironclad /opt/ironclad/bin/ironclad doctor --json > $results/doctor.json || true

# What timers do at night; a drill has a database server of its own.
for unit in backup verify prune; do systemctl start ironclad-$unit || true; done
show ironclad-backup ironclad-verify ironclad-prune > $results/tasks
systemctl list-timers --all --no-legend > $results/timers || true
as_ironclad /opt/ironclad/bin/ironclad backup list --json > $results/backups.json

# The database dies under everything: it comes back, and nothing else is started again for it.
kill -9 $(head -1 /var/lib/ironclad/postgres/postmaster.pid)
for _ in $(seq 500); do [ "$(systemctl show -P NRestarts ironclad-postgres)" = 1 ] && systemctl -q is-active ironclad-postgres && break; sleep 0.2; done
show $units > $results/recovered

# The watcher dies: what systemd listens on stays, and who asks meanwhile is answered by the next one.
kill -9 $(systemctl show -P MainPID ironclad-watch)
for _ in $(seq 500); do [ "$(systemctl show -P NRestarts ironclad-watch)" = 1 ] && systemctl -q is-active ironclad-watch && break; sleep 0.2; done
{ answers 9641; systemctl show -P ActiveState ironclad-watch.socket; } > $results/again

# One that ends for a wrong setting stays so, whoever asks for its health.
mkdir -p /etc/systemd/system/ironclad-watch.service.d
printf '[Service]\nEnvironment=IRONCLAD_JOBS__LEASE_SECONDS=nonsense\n' > /etc/systemd/system/ironclad-watch.service.d/50-wrong.conf
systemctl daemon-reload
systemctl restart ironclad-watch || true
for _ in $(seq 500); do [ "$(systemctl show -P ActiveState ironclad-watch)" = failed ] && break; sleep 0.2; done
for _ in $(seq 500); do [ "$(systemctl show -P ActiveState ironclad-watch.socket)" = inactive ] && break; sleep 0.2; done
answers 9641 > $results/refused
show ironclad-watch > $results/wrong-watch
rm -r /etc/systemd/system/ironclad-watch.service.d
systemctl daemon-reload
systemctl start ironclad-watch
answers 9641 >> $results/refused

systemctl start ironclad-worker@nonsense || true
sleep 1
show ironclad-worker@nonsense > $results/wrong

# The secret reached the services; it must be nowhere else.
cmp /etc/ironclad/secrets/not_a_setting /run/credentials/ironclad-watch.service/ironclad_not_a_setting > $results/credential
{ set +x; } 2> /dev/null
grep -rlF -e "$secret" -e "$token" /proc/[0-9]*/environ /proc/[0-9]*/cmdline /var/lib/ironclad /etc/systemd $results > $results/leaks 2> /dev/null || true
set -x
date +%s.%N > $results/stopping
systemctl stop ironclad.target
for _ in $(seq 500); do
    systemctl show -P ActiveState $units | grep -qE '^(active|deactivating|activating)$' || break
    sleep 0.2
done
date +%s.%N > $results/stopped
show $units > $results/ended
for port in 9641 9648; do answers $port; done > $results/silent
systemctl show -P ActiveState ironclad-watch.socket ironclad-postgres.socket >> $results/silent
ps -u ironclad -o pid=,args= > $results/left || true
tail -3 /var/lib/ironclad/postgres/server.log > $results/server.log
