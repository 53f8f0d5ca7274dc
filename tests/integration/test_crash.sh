#!/bin/sh
# The sandbox is killed while databases write to a directory of the host: what was committed, and
# said to be, is there afterwards, and the files are whole.  CYCLES=50 for a long run.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

: "${CYCLES:=4}"
pg=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
data=$work/data
mkdir "$data"
chmod 755 "$work" "$data"

# killed ACKED COMMAND…: runs it, and kills the sandbox with SIGKILL at some moment after its first
# line of output.
killed() {
	acked=$1
	shift
	: >"$acked"
	"$RUNSC" --root "$root" do --quiet -volume="$data:/data" "$@" >"$acked" 2>"$work/err" </dev/null &
	sandbox=$!
	wait_for 60 test -s "$acked" || { cat "$work/err"; kill -9 $sandbox; return 1; }
	sleep "0.$(od -An -N1 -tu1 /dev/urandom | tr -d ' ')"
	children=$(pgrep -P $sandbox | tr '\n' ' ')
	# shellcheck disable=SC2086
	kill -9 $children $sandbox 2>/dev/null
	wait $sandbox 2>/dev/null
	return 0
}

# The last number of which a whole line was written.
last_acked() {
	n=$(sed -n '/^[0-9][0-9]*\.$/p' "$1" | tail -1)
	echo "${n%.}"
}

cat >"$work/writer.py" <<'X2'
import sqlite3, sys
db = sqlite3.connect("/data/" + sys.argv[1] + ".db", isolation_level=None)
db.execute("pragma journal_mode=" + sys.argv[1])
db.execute("pragma synchronous=full")
db.execute("create table if not exists t(n integer primary key, pad text)")
n = db.execute("select coalesce(max(n), 0) from t").fetchone()[0]
while True:
    n += 1
    db.execute("insert into t values (?, ?)", (n, "x" * (n % 900)))
    print(str(n) + ".", flush=True)
X2
cat >"$work/reader.py" <<'X2'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
count, most = db.execute("select count(*), max(n) from t").fetchone()
assert count == most, (count, most)
assert most >= int(sys.argv[2]), (most, sys.argv[2])
assert all(len(pad) == n % 900 for n, pad in db.execute("select n, pad from t"))
X2

sqlite_survives() {
	for _ in $(seq "$CYCLES"); do
		killed "$work/acked" /usr/bin/python3 "$work/writer.py" "$1" || return 1
		/usr/bin/python3 "$work/reader.py" "$data/$1.db" "$(last_acked "$work/acked")" || return 1
	done
}

cat >"$work/postgres.sh" <<X2
set -e
cd /
pg=$pg
rm -f /data/pg/postmaster.pid
\$pg/pg_ctl -D /data/pg -w -t 60 -o '-c listen_addresses= -k /tmp' -l /data/log start >/dev/null
sql() { \$pg/psql -q -A -t -h /tmp -v ON_ERROR_STOP=1 postgres "\$@"; }
sql -c 'create table if not exists t(n int primary key, pad text)'
# What the last life said to be there has to be.
sql -c "select case when count(*) = coalesce(max(n), 0) and count(*) >= \$1 then 'whole' else 'lost ' || count(*) end from t"
[ "\$2" = write ] || { sql -c 'select count(*) from t where length(pad) <> n % 900'
	\$pg/pg_ctl -D /data/pg -w -m fast stop >/dev/null; exit 0; }
first=\$(sql -c 'select coalesce(max(n), 0) + 1 from t')
seq \$first 1000000 | awk '{ print "insert into t values (" \$1 ", repeat(chr(120), " \$1 " % 900));\n\\\\echo " \$1 "." }' | sql -f -
X2

postgres_survives() {
	chown nobody "$data"
	(cd / && setpriv --reuid=nobody --clear-groups "$pg/initdb" -N -D "$data/pg" -A trust >/dev/null) || return 1
	last=0
	for _ in $(seq "$CYCLES"); do
		killed "$work/acked" setpriv --reuid=nobody --clear-groups bash "$work/postgres.sh" "$last" write || return 1
		head -1 "$work/acked"
		[ "$(head -1 "$work/acked")" = whole ] || return 1
		n=$(last_acked "$work/acked")
		last=${n:-$last}
	done
	"$RUNSC" --root "$root" do --quiet -volume="$data:/data" setpriv --reuid=nobody --clear-groups \
		bash "$work/postgres.sh" "$last" check >"$work/end" 2>"$work/err"
	cat "$work/end" "$work/err"
	[ "$(cat "$work/end")" = "whole
0" ] && [ "$last" -gt 0 ] && "$pg/pg_controldata" "$data/pg" | grep 'state: *shut down'
}

check sqlite_journal_survives_kill sqlite_survives delete
check sqlite_wal_survives_kill sqlite_survives wal
if [ -n "$pg" ]; then
	check postgres_survives_kill postgres_survives
else
	echo "skip postgres_survives_kill - PostgreSQL is not installed"
fi
