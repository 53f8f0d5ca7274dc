#!/bin/sh
# A Debian root of its own in an OCI bundle, compared with the same programs in a chroot.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

mirror=$(apt-get indextargets --format '$(SITE)' | head -1)
deb=$work/debian
if ! debootstrap --variant=minbase --include=python3-minimal,git,sqlite3,gcc,libc6-dev,make,xz-utils bookworm \
	"$deb" "$mirror" >"$work/debootstrap.log" 2>&1; then
	echo "skip debian_root - debootstrap failed: $(tail -1 "$work/debootstrap.log")"
	exit 0
fi

cat >"$deb/test.sh" <<'X'
set -e
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
cat /etc/debian_version; ls /; id
python3 -c 'import os, sys, threading; t = threading.Thread(target=print, args=(sys.version_info[:2],)); t.start(); t.join(); print(os.listdir("/home"))'
perl -e 'print join(",", map { $_ * $_ } 1..10), "\n"'
dpkg -l | wc -l; dpkg --verify libc6
d=$(mktemp -d); cd "$d"
printf 'int main(void){return 42;}\n' >a.c && make -s a && ./a || echo "status $?"
git init -q . && git add a.c && git -c user.name=n -c user.email=e@example.org commit -qm one && git log --format=%s
sqlite3 t.db 'pragma journal_mode=wal; create table t(a); insert into t values (1),(2); select sum(a) from t;'
find /usr -xdev | wc -l
tar cJf /tmp/x.tar.xz -C /etc . && mkdir /tmp/x && tar xJf /tmp/x.tar.xz -C /tmp/x && diff -r --no-dereference /etc /tmp/x && echo same
adduser --disabled-password --gecos '' guest >/dev/null 2>&1 || useradd guest; su guest -s /bin/sh -c 'id -un; touch /etc/x 2>/dev/null || echo refused'
X
cp -a "$deb" "$work/native"
mount -t proc proc "$work/native/proc"
trap 'umount "$work/native/proc" 2>/dev/null; clean_up' EXIT
chroot "$work/native" /bin/bash /test.sh >"$work/want" 2>&1

inside() {
	b=$work/$1
	mkdir "$b" && (cd "$b" && "$RUNSC" spec -- /bin/bash /test.sh) || return 1
	jq --arg root "$deb" '.root = {path: $root} | .process.terminal = false |
		.process.capabilities |= with_entries(.value += ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER",
			"CAP_FSETID", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"])' "$b/config.json" >"$b/new" &&
		mv "$b/new" "$b/config.json"
	timeout 300 "$RUNSC" --root "$root" --platform="$1" run --bundle "$b" "debian-$1" </dev/null >"$work/got" 2>&1
	diff "$work/want" "$work/got"
}
for p in systrap ptrace; do
	check $p/debian_root inside $p
done
# What was written inside stays there.
check debian_root_is_unchanged sh -c "! grep -q guest '$deb/etc/passwd' && [ ! -e '$deb/tmp/x' ]"
