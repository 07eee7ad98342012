# SPDX-License-Identifier: GPL-2.0-only
# The functions that exported scripts use. A script gets those that it needs; see library.rs.

# lab_step(what) - begin a step of the scenario
#	what - its line there, and what it does
function lab_step() {
	LAB_STEP="$1"
	LAB_MARK="lab step $(date --rfc-3339=ns)"
	log "$LAB_MARK: $1"
}

# lab_fail(expected, seen) - report what does not hold, and end the test
#	expected - what the scenario says
#	seen - what is so instead
function lab_fail() {
	printf 'not ok\n\n%s\n- expected: %s\n+ seen: %s\n\n' "$LAB_STEP" "$1" "$2"
	die "livepatch kselftest(s) failed"
}

# lab_equal(what, expected, seen) - compare two texts
#	what - what they are about
#	expected - what the scenario says
#	seen - what is so
function lab_equal() {
	[[ "$2" == "$3" ]] || lab_fail "$1: $2" "$3"
}

# lab_outcome(doing, expected, status, output) - compare how a command ended
#	doing - what it does
#	expected - how its message must end; empty if it must succeed
#	status - its exit status
#	output - its message
function lab_outcome() {
	local doing="$1" expected="$2" status="$3" output="$4"

	if [[ "$status" -eq 0 ]]; then
		[[ -z "$expected" ]] || lab_fail "$doing: $expected" "success"
	elif [[ -z "$expected" ]]; then
		lab_fail "$doing: success" "$output"
	elif [[ "$output" != *": $expected" ]]; then
		lab_fail "$doing: $expected" "$output"
	fi
}

# lab_value(path) - print what a file holds, or "gone" without it
#	path - the file
function lab_value() {
	cat "$1" 2> /dev/null || echo "gone"
}

# lab_load(expected, modname, params) - load a module or a livepatch
#	expected - how insmod's message must end; empty if it must succeed
#	modname - module name to load
#	params - module parameters to pass to insmod
function lab_load() {
	local expected="$1" mod="$2"; shift 2
	local msg="% insmod test_modules/$mod.ko $*"
	local output

	[[ -f "test_modules/$mod.ko" ]] ||
		die "Can't find \"test_modules/$mod.ko\", try \"make\""
	log "${msg%% }"
	output=$(insmod "test_modules/$mod.ko" "$@" 2>&1)
	lab_outcome "insmod $mod" "$expected" "$?" "$output"
}

# lab_unload(expected, modname) - unload a module or a livepatch
#	expected - how rmmod's message must end; empty if it must succeed
#	modname - module name to unload
function lab_unload() {
	local expected="$1" mod="$2"
	local output status

	# The last reference goes a little after the livepatch.
	if [[ -z "$expected" ]]; then
		MAX_RETRIES=30 loop_until \
			'[[ "$(lab_value "/sys/module/$mod/refcnt")" =~ ^(0|gone)$ ]]'
	fi
	log "% rmmod $mod"
	output=$(rmmod "$mod" 2>&1)
	status=$?
	# rmmod looks before it asks the kernel, and has words of its own for what it sees.
	case "$output" in
	*" is in use"*)
		output+=": Resource temporarily unavailable"
		;;
	*" is not currently loaded")
		output+=": No such file or directory"
		;;
	esac
	lab_outcome "rmmod $mod" "$expected" "$status" "$output"
}

# lab_write(expected, path, data) - write a file at once
#	expected - how the message must end; empty if it must succeed
#	path - the file, which is neither created nor truncated
#	data - what to write
function lab_write() {
	local expected="$1" path="$2" data="$3"
	local output

	log "% echo -n $data > $path"
	# A redirection would create the file, or truncate it, which tracefs understands as "clear".
	output=$(printf '%s' "$data" 2> /dev/null |
		dd of="$path" bs=64K iflag=fullblock conv=nocreat,notrunc status=none 2>&1)
	lab_outcome "write to $path" "$expected" "$?" "$output"
}

# lab_read(expected, path) - read a file into LAB_DATA, without its last newline
#	expected - how the message must end; empty if it must succeed
#	path - the file
function lab_read() {
	local expected="$1" path="$2"
	local status

	# The dot keeps the newlines that $() would drop.
	LAB_DATA=$(cat "$path" 2>&1; status=$?; echo "."; exit "$status")
	status=$?
	LAB_DATA="${LAB_DATA%.}"
	LAB_DATA="${LAB_DATA%$'\n'}"
	lab_outcome "read $path" "$expected" "$status" "$LAB_DATA"
}

# lab_read_equals(path, expected) - read a file and compare it
#	path - the file
#	expected - what it must hold, but for a final newline
function lab_read_equals() {
	lab_read "" "$1"
	lab_equal "$1" "$2" "$LAB_DATA"
}

# lab_read_contains(path, expected) - read a file and look for a text
#	path - the file
#	expected - what must occur in it
function lab_read_contains() {
	lab_read "" "$1"
	[[ "$LAB_DATA" == *"$2"* ]] || lab_fail "$1 contains: $2" "$LAB_DATA"
}

# lab_stat(expected, path, rights) - look at the rights of a file
#	expected - how the message must end; empty if it must succeed
#	path - the file
#	rights - as ls(1) shows them; empty if they may be any
function lab_stat() {
	local expected="$1" path="$2" rights="$3"
	local output

	output=$(stat --format '%A' "$path" 2>&1)
	lab_outcome "stat $path" "$expected" "$?" "$output"
	[[ -z "$rights" ]] || lab_equal "rights of $path" "$rights" "$output"
}

# lab_wait_equals(path, expected) - wait for what a file holds
#	path - the file
#	expected - what it must hold, but for a final newline
function lab_wait_equals() {
	local path="$1" expected="$2"

	loop_until '[[ -e "$path" && "$(lab_value "$path")" == "$expected" ]]' ||
		lab_fail "$path: $expected" "$(lab_value "$path")"
}

# lab_wait_exists(path) - wait until there is a file
#	path - the file
function lab_wait_exists() {
	local path="$1"

	loop_until '[[ -e "$path" ]]' || lab_fail "$path is there" "it is not"
}

# lab_wait_absent(path) - wait until there is no such file
#	path - the file
function lab_wait_absent() {
	local path="$1"

	loop_until '[[ ! -e "$path" ]]' || lab_fail "$path is gone" "it is still there"
}

# lab_reverse(expected, modname) - write to a livepatch's "enabled" what it is not
#	expected - how the message must end; empty if it must succeed
#	modname - the livepatch in transition
function lab_reverse() {
	local path="$SYSFS_KLP_DIR/$2/enabled"
	local data="0"

	[[ "$(lab_value "$path")" == "0" ]] && data="1"
	lab_write "$1" "$path" "$data"
}

# lab_in_transition() - print the livepatch that is in transition, or "none"
function lab_in_transition() {
	local dir

	for dir in "$SYSFS_KLP_DIR"/*/; do
		if [[ "$(lab_value "$dir/transition")" == "1" ]]; then
			basename "$dir"
			return
		fi
	done
	echo "none"
}

# lab_unsettled() - print the livepatches that are in transition or about to be freed
function lab_unsettled() {
	local dir

	for dir in "$SYSFS_KLP_DIR"/*/; do
		if [[ -d "$dir" ]] && ! [[ "$(lab_value "$dir/transition")" == "0" &&
			"$(lab_value "$dir/enabled")" == "1" ]]; then
			basename "$dir"
		fi
	done
}

# lab_settle() - wait for the end of transitions, and of the livepatches that they disable
function lab_settle() {
	loop_until '[[ -z "$(lab_unsettled)" ]]' ||
		lab_fail "the transition ends" "it has not: $(lab_unsettled)"
}

# lab_blockers() - print each task that is not yet where the transition goes to: "held" or "other"
#	Uses held_in of its callers: a function instead of the targets' holders.
function lab_blockers() {
	local patch from file comm

	patch=$(lab_in_transition)
	[[ "$patch" != "none" ]] || return
	from=$((1 - $(lab_value "$SYSFS_KLP_DIR/$patch/enabled")))
	grep -sl "^$from$" /proc/[0-9]*/task/[0-9]*/patch_state | while IFS= read -r file; do
		if [[ -n "$held_in" ]]; then
			grep -sqF " $held_in+0x" "${file%/*}/stack" && echo "held" && continue
		else
			comm=$(lab_value "${file%/*}/comm")
			[[ "$comm" == "lab-hold"* ]] && echo "held" && continue
			# It has ended in the meantime.
			[[ "$comm" == "gone" ]] && continue
		fi
		echo "other"
	done
}

# lab_held([function]) - wait until only held tasks keep a transition open
#	function - instead of the targets' holders: whoever is in this function
function lab_held() {
	local held_in="$1"

	loop_until '[[ "$(lab_in_transition)" == "none" ||
		"$(lab_blockers | sort -u)" == "held" ]]' ||
		lab_fail "only held tasks keep the transition open" "others do, too"
	[[ "$(lab_in_transition)" != "none" ]] ||
		lab_fail "the transition stays open" "it completed, although a function is held"
}

# lab_hold(target, function) - let a task enter a function and sleep in it
#	target - the target, as the scenario calls it
#	function - one of its functions
function lab_hold() {
	lab_write "" "$SYSFS_DEBUG_DIR/lab-$1/.hold" "$2"
}

# lab_release(target, function) - let the task leave the function
#	target - the target, as the scenario calls it
#	function - one of its functions
function lab_release() {
	lab_write "" "$SYSFS_DEBUG_DIR/lab-$1/.release" "$2"
}

# lab_trace(function) - start tracing a function; without one, stop and forget
#	function - to be traced function
function lab_trace() {
	local filter="$SYSFS_TRACING_DIR/set_ftrace_filter"

	if [[ -z "$1" ]]; then
		cleanup_tracing
		return
	fi
	trace_function "$1"
	if ! grep -qw "^$1" "$filter"; then
		cleanup_tracing
		lab_fail "tracing of $1" "the function cannot be traced"
	fi
}

# lab_livepatches(modnames...) - exactly these livepatches are enabled
#	modnames - in stack order, the oldest first
function lab_livepatches() {
	local dir seen

	seen=$(for dir in "$SYSFS_KLP_DIR"/*/; do
		[[ "$(lab_value "$dir/enabled")" == "1" ]] || continue
		echo "$(lab_value "$dir/stack_order") $(basename "$dir")"
	done | sort -k 1,1n -k 2,2 | awk '{ printf "%s%s", (NR > 1 ? " " : ""), $2 }')
	lab_equal "enabled livepatches" "$*" "$seen"
}

# lab_call(returns, target, function) - call a function
#	returns - what it must return; empty if that may be anything
#	target - the target, as the scenario calls it
#	function - one of its functions
function lab_call() {
	lab_read "" "$SYSFS_DEBUG_DIR/lab-$2/$3"
	[[ -z "$1" ]] || lab_equal "$2.$3 returns" "$1" "$LAB_DATA"
}

# lab_attribute(modname, rel_path, expected) - compare an attribute of a livepatch
#	modname - the livepatch
#	rel_path - relative path of the sysfs interface
#	expected - its value
function lab_attribute() {
	lab_equal "$2 of $1" "$3" "$(lab_value "$SYSFS_KLP_DIR/$1/$2")"
}

# lab_modules(modnames...) - of the test's modules, exactly these are loaded
#	modnames - in alphabetical order
function lab_modules() {
	lab_equal "loaded modules" "$*" \
		"$(awk '{ print $1 }' /proc/modules | grep -xE "$LAB_MODULES" | sort |
			paste -sd ' ')"
}

# lab_transition(modname) - this livepatch is in transition
#	modname - the livepatch, or "none"
function lab_transition() {
	lab_equal "in transition" "$1" "$(lab_in_transition)"
}

# lab_enabled_functions(functions...) - exactly these have livepatching's ftrace handler
#	functions - in alphabetical order, as object.function
function lab_enabled_functions() {
	lab_equal "functions with klp_ftrace_handler" "$*" "$(awk '/klp_ftrace_handler/ {
		object = "vmlinux"
		if ($2 ~ /^\[.*\]$/)
			object = substr($2, 2, length($2) - 2)
		print object "." $1
	}' "$SYSFS_TRACING_DIR/enabled_functions" | sort | paste -sd ' ')"
}

# lab_traced(functions...) - exactly these were seen by the function tracer
#	functions - in alphabetical order
function lab_traced() {
	lab_equal "traced functions" "$*" "$(awk '!/^#/ && sub(/ <-.*/, "") { print $NF }' \
		"$SYSFS_TRACING_DIR/trace" | sort -u | paste -sd ' ')"
}

# lab_read_log() - read what the kernel said in the step into LAB_LOG
#	Without what programs wrote to /dev/kmsg, as this script does.
function lab_read_log() {
	local lines

	# A line without its end is not shown before the next one begins.
	log "lab read"
	lines=$(dmesg --decode)
	[[ "$lines" == *"$LAB_MARK"* ]] ||
		lab_fail "the step's beginning is in the kernel log" "buffer overrun?"
	# "kern  :info  : [ 1.0] text"; further lines of a message have no such beginning.
	LAB_LOG=$(awk -v mark="$LAB_MARK" '
		match($0, /^[a-z0-9]+ *:[a-z]+ *: /) {
			kern = /^kern/
			$0 = substr($0, RLENGTH + 1)
		}
		p && kern
		index($0, mark) { p = 1 }' <<< "$lines" |
		sed -e 's/^\[[ 0-9.]*\] //' -e 's/^\[[ ]*[CT][0-9]*\] //')
}

# lab_log(parts...) - these occur in what the kernel said in the step, in this order
#	parts - of one line each
function lab_log() {
	local line

	lab_read_log
	while IFS= read -r line; do
		[[ $# -gt 0 ]] || return 0
		[[ "$line" == *"$1"* ]] && shift
	done <<< "$LAB_LOG"
	[[ $# -eq 0 ]] || lab_fail "a log line with (in this order): $1" "$LAB_LOG"
}

# lab_whole_log(lines...) - exactly these are the step's lines of livepatching and the test's modules
#	lines - all of them, but for those that speak of a task, of time, or of what the first
#		module of its kind taints
function lab_whole_log() {
	local expected seen

	expected=$(printf '%s\n' "$@")
	lab_read_log
	seen=$(grep -E "^(livepatch|$LAB_MODULES): " <<< "$LAB_LOG" |
		grep -vE -e '^livepatch: (klp_try_switch_task: |signaling remaining tasks)' \
			-e "^($LAB_MODULES): (loading out-of-tree module|tainting kernel with)" |
		sed 's/^livepatch: //')
	[[ "$expected" == "$seen" ]] ||
		lab_fail "the log, line by line" "$(diff -upr --label expected --label result \
			<(echo "$expected") <(echo "$seen"))"
}

# lab_not_in_log(parts...) - none of these occurs in anything that the kernel said in the step
#	parts - of a line
function lab_not_in_log() {
	local unwanted

	lab_read_log
	for unwanted in "$@"; do
		[[ "$LAB_LOG" != *"$unwanted"* ]] ||
			lab_fail "no log line with: $unwanted" "$LAB_LOG"
	done
}

# lab_probe(modname) - whether a module loads that does so only where the kernel has something
#	modname - it leaves at once
function lab_probe() {
	local mod="$1"
	local output

	[[ -f "test_modules/$mod.ko" ]] ||
		die "Can't find \"test_modules/$mod.ko\", try \"make\""
	if output=$(insmod "test_modules/$mod.ko" 2>&1); then
		rmmod "$mod"
		return 0
	fi
	[[ "$output" == *": No such device" ]] || die "$output"
	return 1
}
