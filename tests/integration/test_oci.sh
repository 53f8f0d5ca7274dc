#!/bin/sh
# What config.json says is what the program finds; hooks.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

b=$work/bundle

# with FILTER COMMAND…: a bundle whose process is COMMAND, its config.json changed by jq's FILTER
with() {
	filter=$1
	shift
	rm -rf "$b"
	bundle "$b" "$@" && jq "$filter" "$b/config.json" >"$b/new" && mv "$b/new" "$b/config.json"
}

# run_with FILTER COMMAND…: its output and exit status
run_with() {
	with "$@" && runsc run --bundle "$b" c1
}

# ---- process ----
check env_is_given expect 0 "v=a b" run_with '.process.env += ["V=a b"]' sh -c 'echo "v=$V"'
check user_and_groups expect 0 "uid=1234 gid=56 groups=56,7,8" \
	run_with '.process.user = {uid: 1234, gid: 56, additionalGids: [7, 8]}' sh -c 'echo $(id) | sed "s/([a-z]*)//g"'
check umask_is_set expect 0 0077 run_with '.process.user.umask = 63' sh -c umask
check umask_default expect 0 0022 run_with . sh -c umask
check cwd_missing_is_made expect 0 /new/dir run_with '.process.cwd = "/new/dir"' pwd
check cwd_that_is_a_file_is_refused expect 128 "working directory" run_with '.process.cwd = "/etc/passwd"' pwd
check capabilities_are_exact expect 0 "0000000000000021 0000000000000021 0000000000000020 0000000000000021 0000000000000000" \
	run_with '.process.capabilities = {bounding: ["CAP_CHOWN", "CAP_KILL"], permitted: ["CAP_CHOWN", "CAP_KILL"],
		effective: ["CAP_KILL"], inheritable: ["CAP_KILL"], ambient: []} | .process.capabilities.inheritable = ["CAP_KILL"]' \
	awk '/^Cap(Inh|Prm|Eff|Bnd|Amb)/ { v[$1] = $2 } END { print v["CapPrm:"], v["CapEff:"], v["CapInh:"], v["CapBnd:"], v["CapAmb:"] }' /proc/self/status
check user_without_capabilities expect 0 "CapEff:	0000000000000000" \
	run_with '.process.user = {uid: 5, gid: 5} | .process.capabilities = {bounding: ["CAP_KILL"]}' grep CapEff /proc/self/status
check ambient_survives_for_users expect 0 "CapEff:	0000000000000020" \
	run_with '.process.user = {uid: 5, gid: 5} | .process.capabilities = (["bounding", "permitted", "inheritable", "ambient"]
		| map({key: ., value: ["CAP_KILL"]}) | from_entries)' grep CapEff /proc/self/status
check rlimits_are_set expect 0 "123 456" \
	run_with '.process.rlimits = [{type: "RLIMIT_NOFILE", soft: 123, hard: 456}]' sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
check rlimit_given_twice_is_refused expect 128 "rlimits[1].type" \
	run_with '.process.rlimits = [{type: "RLIMIT_CPU", soft: 1, hard: 1}, {type: "RLIMIT_CPU", soft: 1, hard: 1}]' true
check no_new_privileges expect 0 "NoNewPrivs:	1" run_with '.process.noNewPrivileges = true' grep NoNewPrivs /proc/self/status
check oom_score_adj expect 0 321 run_with '.process.oomScoreAdj = 321' cat /proc/self/oom_score_adj
check oom_score_adj_is_bounded expect 128 "process.oomScoreAdj" run_with '.process.oomScoreAdj = 1001' true
check arguments_are_kept expect 0 "<a  b><><*>" run_with . printf '<%s>' 'a  b' '' '*'

# ---- names ----
check hostname expect 0 "box" run_with '.hostname = "box"' uname -n
check domainname expect 0 "example.net" run_with '.domainname = "example.net"' cat /proc/sys/kernel/domainname

# ---- linux.devices, linux.sysctl ----
check devices_are_made expect 0 "crw-r----- 10 20 a e5" \
	run_with '.linux.devices = [{path: "/dev/sub/mine", type: "c", major: 10, minor: 229, fileMode: 416, uid: 10, gid: 20}]' \
	stat -c '%A %u %g %t %T' /dev/sub/mine
check device_in_the_way_is_replaced expect 0 "character special file" \
	run_with '.linux.devices = [{path: "/dev/full", type: "c", major: 1, minor: 3}]' stat -c %F /dev/full
check device_that_nobody_drives expect 1 "No such device or address" \
	run_with '.linux.devices = [{path: "/dev/odd", type: "b", major: 240, minor: 1}]' cat /dev/odd
check device_of_unknown_type_is_refused expect 128 "unknown type" \
	run_with '.linux.devices = [{path: "/dev/odd", type: "x"}]' true
check sysctl_is_set expect 0 5432 run_with '.linux.sysctl = {"fs.inotify.max_user_watches": "5432"}' cat /proc/sys/fs/inotify/max_user_watches
check sysctl_unknown_is_refused expect 128 "linux.sysctl: \"kernel.nonsense=1\": there is no such value" \
	run_with '.linux.sysctl = {"kernel.nonsense": "1"}' true
check sysctl_as_it_is_is_fine expect 0 ok run_with '.linux.sysctl = {"kernel.ostype": "Linux"}' echo ok

# ---- mounts ----
mkdir "$work/dir" "$work/dir/sub"
echo seen >"$work/dir/file"
echo '#!/bin/sh' >"$work/dir/program"
chmod 755 "$work/dir/program"

# bind OPTIONS: the filter for a mount of that directory at /mnt
bind() {
	echo ".mounts += [{destination: \"/mnt\", type: \"bind\", source: \"$work/dir\", options: [$1]}]"
}
check bind_is_written_through expect 0 seen run_with "$(bind '"bind"')" sh -c 'cat /mnt/file && echo new >/mnt/new'
check bind_was_written_through grep -q new "$work/dir/new"
check rbind_is_read expect 0 seen run_with "$(bind '"rbind", "rw"')" cat /mnt/file
check bind_ro expect 1 "Read-only file system" run_with "$(bind '"bind", "ro"')" touch /mnt/x
check bind_noexec expect 126 "ermission denied" run_with "$(bind '"bind", "noexec"')" sh -c /mnt/program
check bind_exec expect 0 "" run_with "$(bind '"bind"')" /mnt/program
check bind_shows_in_mounts expect 0 "/mnt" run_with "$(bind '"bind", "ro", "nosuid", "nodev"')" \
	grep -E '^[^ ]+ /mnt [^ ]+ ro,([a-z]+,)*nosuid,([a-z]+,)*nodev' /proc/mounts
check bind_is_shared_inside expect 0 "shared:" run_with "$(bind '"rbind", "rshared"')" grep ' /mnt ' /proc/self/mountinfo
check root_propagation expect 0 "shared:" run_with '.linux.rootfsPropagation = "rshared"' grep ' / / ' /proc/self/mountinfo
check bad_root_propagation_is_named expect 128 "rootfsPropagation" run_with '.linux.rootfsPropagation = "both"' true
check bind_of_missing_source_is_named expect 128 "mounts[" run_with '.mounts += [{destination: "/mnt", type: "bind", source: "/no/such", options: ["bind"]}]' true
check bind_of_a_file expect 0 seen run_with ".mounts += [{destination: \"/mnt/a/file\", type: \"bind\", source: \"$work/dir/file\", options: [\"bind\"]}]" cat /mnt/a/file
cp /usr/bin/id "$work/dir/id" && chmod 4755 "$work/dir/id"
check nosuid_is_honoured expect 0 1000 run_with ".process.user = {uid: 1000, gid: 1000} | $(bind '"bind", "nosuid"')" /mnt/id -u
check suid_is_honoured expect 0 0 run_with ".process.user = {uid: 1000, gid: 1000} | $(bind '"bind"')" /mnt/id -u
check tmpfs_mode expect 0 "1711 tmpfs" \
	run_with '.mounts += [{destination: "/mnt", type: "tmpfs", source: "tmpfs", options: ["mode=1711"]}]' sh -c 'echo $(stat -c %a /mnt) $(stat -f -c %T /mnt)'
check tmpfs_size expect 1 "No space left" \
	run_with '.mounts += [{destination: "/mnt", type: "tmpfs", source: "tmpfs", options: ["size=1m"]}]' sh -c 'head -c 3000000 /dev/zero >/mnt/f'
check unknown_type_is_left_out expect 0 fine run_with '.mounts += [{destination: "/mnt/x", type: "frobfs", source: "x"}]' echo fine
check root_readonly expect 1 "Read-only file system" run_with '.root.readonly = true' touch /etc/x
check root_writable_in_memory expect 0 fine run_with '.root.readonly = false' sh -c 'echo fine >/etc/x.runsc && cat /etc/x.runsc'
check root_was_not_written test ! -e /etc/x.runsc
check masked_file_is_empty expect 0 "0" run_with '.linux.maskedPaths = ["/etc/passwd"]' sh -c 'wc -c </etc/passwd'
check masked_directory_is_empty expect 0 "0" run_with '.linux.maskedPaths = ["/usr/share"]' sh -c 'ls -A /usr/share | wc -l'
check masked_path_may_be_missing run_with '.linux.maskedPaths = ["/no/such"]' true
check masked_cannot_be_written expect 2 "" run_with '.linux.maskedPaths = ["/etc/passwd"] | .root.readonly = false' sh -c 'echo x >/etc/passwd'
check readonly_path expect 0 fine run_with '.linux.readonlyPaths = ["/etc"] | .root.readonly = false' sh -c '! touch /etc/x 2>/dev/null && touch /usr/x && echo fine'

# ---- hooks ----
log=$work/hooks

# hook KIND SCRIPT: the filter that adds it
hook() {
	jq -n --arg k "$1" --arg s "$2" --arg l "$log" -r \
		'".hooks[\($k|@json)] += [{path: \"/bin/sh\", args: [\"sh\", \"-c\", \($s|@json)], env: [\("L=" + $l|@json), \"PATH=/bin\"]}]"'
}
kinds="prestart createRuntime createContainer startContainer poststart poststop"
all=.
for k in $kinds; do
	case $k in
	startContainer) all="$all | $(hook $k "read -r s; echo $k pid \$\$ >/mnt/inside; echo \"\$s\" >>/mnt/inside")" ;;
	*) all="$all | $(hook $k "read -r s; echo $k >>\$L; echo \"\$s\" >>\$L.state; pwd >>\$L.cwd")" ;;
	esac
done
: >"$log"
check hooks_run_around_the_program run_with "$all | .annotations = {k: \"v\"} | $(bind '"bind"')" sh -c 'test -s /mnt/inside'
check hooks_ran_in_order sh -c "[ \"\$(tr '\n' ' ' <'$log')\" = 'prestart createRuntime createContainer poststart poststop ' ]"
check hooks_got_the_state sh -c "[ \"\$(jq -r .status '$log.state' | tr '\n' ' ')\" = 'creating creating creating running stopped ' ] &&
	jq -se 'map(.id == \"c1\" and .bundle == \"$b\" and .annotations.k == \"v\") | all' '$log.state'"
check hooks_run_in_the_bundle sh -c "[ \"\$(sort -u '$log.cwd')\" = '$b' ]"
check start_container_hook_ran_inside sh -c "grep -q 'startContainer' '$work/dir/inside' && tail -1 '$work/dir/inside' | jq -e '.status == \"created\"'"

for k in prestart createRuntime createContainer startContainer; do
	: >"$log"
	check "failed_${k}_hook_stops_the_start" expect 128 "error running $k hook #0: exit status 3, output: why" \
		run_with "$(hook $k 'echo why; exit 3') | $(hook poststop 'echo stopped >>$L')" sh -c "echo ran"
	check "failed_${k}_hook_runs_poststop" grep -qx stopped "$log"
	check "failed_${k}_hook_leaves_nothing" sh -c "[ -z \"\$('$RUNSC' --root '$root' list -q)\" ]"
done
check failed_poststart_hook_ends_the_container expect 128 "error running poststart hook #0" run_with "$(hook poststart 'exit 1')" sleep 1000
check failed_poststop_hook_is_no_failure run_with "$(hook poststop 'exit 1')" true
for k in createRuntime startContainer; do
	check "slow_${k}_hook_is_killed" expect 128 "hook ran past specified timeout of 1s" \
		run_with "$(hook $k 'sleep 100') | .hooks.${k}[0].timeout = 1" true
done
check hook_that_reads_nothing run_with "$(hook createRuntime 'exit 0')" true
check missing_hook_is_named expect 128 "/no/hook" run_with '.hooks.createRuntime = [{path: "/no/hook"}]' true
check relative_hook_is_refused expect 128 "hooks.prestart[0].path" run_with '.hooks.prestart = [{path: "bin/sh"}]' true

# ---- afterwards ----
stopped_status() {
	with . sh -c "$1" && runsc run --detach --bundle "$b" c2 </dev/null >/dev/null 2>&1 || return 1
	wait_for 5 sh -c "'$RUNSC' --root '$root' state c2 | grep -q stopped" && runsc wait c2 && runsc wait c2
	status=$?
	runsc delete c2 || return 1
	return $status
}
check wait_for_stopped_has_the_exit_code expect 0 '"exitStatus":9' stopped_status 'exit 9'

created_can_be_looked_at() {
	with '.annotations = {key: "value"}' sleep 100 &&
		runsc create --bundle "$b" c3 </dev/null >/dev/null 2>&1 &&
		runsc exec c3 echo inside && runsc kill c3 0 && runsc start c3 && runsc kill c3 0 &&
		runsc state c3 && runsc kill c3 KILL && runsc wait c3
}
check created_container_runs_exec_and_survives_signal_0 expect 0 '"status": "running"' created_can_be_looked_at
check wait_for_stopped_has_the_signal expect 0 '"exitStatus":137' runsc wait c3
check state_has_annotations expect 0 '"key": "value"' runsc state c3
check start_of_stopped_is_refused expect 128 "cannot start a container that is stopped" runsc start c3
check kill_of_stopped_is_refused expect 128 "container not running" runsc kill c3
check kill_all_of_stopped_is_fine runsc kill --all c3
check delete_of_stopped runsc delete c3
