# SPDX-License-Identifier: Apache-2.0
# Completion of stacygate for bash. What the gateway says is only ever compared and listed, never expanded.

# Prints the first column of a table that stacygate prints: what can be a word of a command line as it is.
_stacygate_column() {
	timeout 1 "$@" 2>/dev/null </dev/null | sed -e 1d -e 's/  .*//' | LC_ALL=C grep -x '[A-Za-z0-9._@+][A-Za-z0-9._@+-]*'
}

# Adds those of the lines on standard input that begin as the word under the cursor does.
_stacygate_offer() {
	local word
	while IFS= read -r word; do
		if [[ $word == "$cur"* ]]; then
			COMPREPLY+=("$word${1-}")
		fi
	done
}

_stacygate_options() {
	local fields='--provider --memory --vcpus --ttl --metadata'
	local common='--json --help'

	case $1 in
	'') echo '--help --version' ;;
	run) echo "--image $fields --file --env --workdir --timeout $common" ;;
	spawn) echo "--image $fields --lease $common" ;;
	exec) echo "--env --workdir --timeout $common" ;;
	logs) echo "--lines $common" ;;
	preview) echo "--open-port $common" ;;
	init) echo "--upstream --key-file --allow-plaintext --user --output --force $common" ;;
	template) echo '--help' ;;
	'template save') echo "--image $fields $common" ;;
	'template spawn') echo "$fields --lease $common" ;;
	*) echo "$common" ;;
	esac
}

_stacygate() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local command='' operands=0 i word
	COMPREPLY=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $command:$word in
		run:-- | exec:--)
			# What follows is the command to run.
			compopt -o default 2>/dev/null
			return
			;;
		:ls | :get | :run | :spawn | :exec | :cp | :logs | :extend | :kill | :prune | :template | :preview | :leases | \
			:whoami | :health | :status | :top | :metrics | :reload | :init | :check) command=$word ;;
		template:ls | template:get | template:save | template:rm | template:spawn | leases:renew | leases:release)
			command="$command $word"
			;;
		*:--image | *:--provider | *:--memory | *:--vcpus | *:--ttl | *:--metadata | *:--file | *:--env | *:--workdir | *:--timeout | \
			*:--lease | *:--lines | *:--open-port | *:--upstream | *:--key-file | *:--user | *:--output)
			# bash takes --image=x for three words.
			[[ ${COMP_WORDS[i + 1]-} == = ]] && i=$((i + 1))
			i=$((i + 1))
			;;
		*:-*) ;;
		*) operands=$((operands + 1)) ;;
		esac
	done

	case $prev in
	--file | --key-file | --output)
		compopt -o default 2>/dev/null
		return
		;;
	--lease)
		_stacygate_offer < <(printf '%s\n' "process=$$" 30m)
		return
		;;
	--image | --provider | --memory | --vcpus | --ttl | --metadata | --env | --workdir | --timeout | --lines | --open-port | --upstream | --user | =)
		return
		;;
	esac

	if [[ $cur == -* ]]; then
		_stacygate_offer < <(_stacygate_options "$command" | tr ' ' '\n')
		return
	fi
	case $command:$operands in
	:0)
		_stacygate_offer < <(printf '%s\n' run spawn ls get exec cp logs extend kill prune template preview leases whoami \
			health status top metrics reload init check)
		;;
	template:0) _stacygate_offer < <(printf '%s\n' ls get save rm spawn) ;;
	leases:0) _stacygate_offer < <(printf '%s\n' renew release) ;;
	'template get:0' | 'template save:0' | 'template rm:0' | 'template spawn:0')
		_stacygate_offer < <(_stacygate_column "$1" template ls)
		;;
	get:0 | exec:0 | logs:0 | extend:0 | preview:0 | kill:* | 'leases renew:0' | 'leases release:0')
		_stacygate_offer < <(_stacygate_column "$1" ls)
		;;
	check:0) compopt -o default 2>/dev/null ;;
	cp:*)
		compopt -o default -o nospace 2>/dev/null
		_stacygate_offer : < <(_stacygate_column "$1" ls)
		;;
	esac
}

complete -F _stacygate stacygate
