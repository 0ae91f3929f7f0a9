# SPDX-License-Identifier: Apache-2.0
# A machine that moves: migrate_to begins it at the source, migrate_from makes the place for it. How the two
# find each other stands in docs/decisions.md.
# shellcheck shell=sh disable=SC2154

attribute=duet-incoming-$name

# ---- the source ----

# What the machine would refuse it says now, while nothing has been begun: certificates that cannot be read or do not
# fit each other, a process that was started without leave to call another node.
check_leave() {
	if is_plain; then
		how='"plain": true'
	else
		how="\"cert\": \"$OCF_RESKEY_certificates/cert.pem\", \"key\": \"$OCF_RESKEY_certificates/key.pem\", \"ca\": \"$OCF_RESKEY_certificates/ca.pem\""
	fi
	said=$(duet ctl "$socket" put /duet/migration "{\"to\": \"tcp:127.0.0.1:1\", \"check\": true, $how}" 2>&1) && return 0
	refuse "$OCF_ERR_GENERIC" "$name cannot be moved: ${said#duet: error: }"
}

migrate_to() {
	target=$OCF_RESKEY_CRM_meta_migrate_target
	is_word "$target" || refuse "$OCF_ERR_ARGS" "migrate_to: no node is named; Pacemaker says which (CRM_meta_migrate_target)"
	check_certificates
	# Called a second time: it waits for the target already.
	[ "$(systemctl is-active -- "duet-move@$name.service")" != active ] || return "$OCF_SUCCESS"
	case $(move_state) in
	"done "* | "running "*) return "$OCF_SUCCESS" ;;
	esac
	alive >/dev/null 2>&1 || refuse "$OCF_ERR_GENERIC" "$name does not run here, so it cannot move to $target"
	check_leave
	# What an earlier move has left is no address of this one.
	attrd_updater -n "$attribute" -N "$target" -D >/dev/null 2>&1
	printf 'DUET_TARGET=%s\nDUET_MOVE=%s\n' "$target" "$(tls_options move) $OCF_RESKEY_migration_options" \
		>"$DUET_RUN/$name.move" ||
		refuse "$OCF_ERR_GENERIC" "$DUET_RUN/$name.move: cannot be written; is /run full?"
	systemctl reset-failed -- "duet-move@$name.service" 2>/dev/null
	said=$(systemctl start --no-block -- "duet-move@$name.service" 2>&1) ||
		refuse "$OCF_ERR_GENERIC" "duet-move@$name.service: $said"
	ocf_log info "$name moves to $target, as soon as that waits for it"
	return "$OCF_SUCCESS"
}

# ---- the target ----

# Of this node, on the network of moves.
own_address() {
	if [ -n "$OCF_RESKEY_migration_network" ]; then
		ip -o addr show to "$OCF_RESKEY_migration_network" scope global up 2>/dev/null |
			awk '{ sub("/.*", "", $4); print $4; exit }'
	else
		getent ahosts "$(crm_node -n 2>/dev/null || uname -n)" | awk '$1 !~ /^127\.|^::1$|^fe80/ { print $1; exit }'
	fi
}

# listens PORT: somebody does, on this host.
listens() {
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
		awk -v "port=$(printf '%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 3) == port { found = 1 } END { exit !found }'
}

# The first port that nobody listens at.
free_port() {
	port=${OCF_RESKEY_migration_ports%-*}
	while [ "$port" -le "${OCF_RESKEY_migration_ports#*-}" ]; do
		listens "$port" || return 0
		port=$((port + 1))
	done
	refuse "$OCF_ERR_GENERIC" "migration_ports=$OCF_RESKEY_migration_ports: all are taken; give more, or look who has them: ss -ltnp"
}

where_it_comes() {
	address=$(own_address)
	[ -n "$address" ] ||
		refuse "$OCF_ERR_INSTALLED" "migration_network=$OCF_RESKEY_migration_network: this node has no address there, or its name leads to none; ip addr, /etc/hosts"
	free_port
	case $address in
	*:*) place=tcp:[$address]:$port ;;
	*) place=tcp:$address:$port ;;
	esac
}

source_has_failed() {
	case $(attrd_updater -n "$attribute" -Q 2>/dev/null) in
	*'value="failed"'*) return 0 ;;
	esac
	return 1
}

came_or_not() {
	runs_or_is_over || source_has_failed
}

waits_or_is_over() {
	{ is_waiting && listens "$port"; } || unit_is_over
}

# No machine has come, and none waits here any more: the source goes on with its own.
refuse_move() {
	attrd_updater -n "$attribute" -D >/dev/null 2>&1
	words=$(last_words)
	unit_is_over || send_signal SIGTERM
	until_is "$(($(now) + 3))" unit_is_over || send_signal SIGKILL control-group
	systemctl reset-failed -- "$unit" 2>/dev/null
	forget
	refuse "$OCF_ERR_GENERIC" "$name did not come to this node: ${words:-$1}; its source goes on with it: journalctl -u duet-move@$name there"
}

migrate_from() {
	by=$(deadline 5)
	alive >/dev/null 2>&1 && return "$OCF_SUCCESS"
	[ -n "$OCF_RESKEY_CRM_meta_migrate_source" ] ||
		refuse "$OCF_ERR_ARGS" "migrate_from: no node is named; Pacemaker says which (CRM_meta_migrate_source)"
	check_certificates
	end_leftover "$by"
	check_nobody_runs_it
	where_it_comes
	write_options "--incoming $place $(tls_options run) $(leave_options)"
	start_unit
	until_is "$by" waits_or_is_over
	is_waiting || refuse_move "it could not wait for it at $place"
	attrd_updater -n "$attribute" -p -U "$place" >/dev/null 2>&1 || refuse_move "attrd_updater refuses $attribute"
	until_is "$by" came_or_not
	alive >/dev/null 2>&1 || refuse_move "not within the timeout of migrate_from; give it a longer one, or say migration_options=--post-copy"
	attrd_updater -n "$attribute" -D >/dev/null 2>&1
	ocf_log info "$name has come from $OCF_RESKEY_CRM_meta_migrate_source"
	return "$OCF_SUCCESS"
}
