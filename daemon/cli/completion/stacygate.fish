# SPDX-License-Identifier: Apache-2.0
# Completion of stacygate for fish. What the gateway says is only ever listed, never expanded.

# The first column of a table that stacygate prints: what can be a word of a command line as it is.
function __stacygate_column
    timeout 1 stacygate $argv 2>/dev/null </dev/null | sed -e 1d -e 's/  .*//' | LC_ALL=C grep -x '[A-Za-z0-9._@+][A-Za-z0-9._@+-]*'
end

# The words before the cursor that are no options, one a line.
function __stacygate_words
    set -l words (commandline -opc)
    for word in $words[2..-1]
        string match -q -- '-*' $word; or echo -- $word
    end
end

# Whether they begin with these.
function __stacygate_on
    set -l words (__stacygate_words)
    test (count $words) -ge (count $argv); or return 1
    test (string join ' ' -- $words[1..(count $argv)]) = (string join ' ' -- $argv)
end

# Whether they are these and no more.
function __stacygate_at
    set -l words (__stacygate_words)
    test (count $words) -eq (count $argv); and __stacygate_on $argv
end

function __stacygate_first
    test (count (__stacygate_words)) -eq 0
end

complete -c stacygate -f
complete -c stacygate -l json -d 'JSON instead of text for people'
complete -c stacygate -s h -l help -d help
complete -c stacygate -n __stacygate_first -s V -l version -d version

complete -c stacygate -n __stacygate_first -a run -d 'make a sandbox, run a command in it, destroy it'
complete -c stacygate -n __stacygate_first -a spawn -d 'make a sandbox'
complete -c stacygate -n __stacygate_first -a ls -d 'list sandboxes'
complete -c stacygate -n __stacygate_first -a get -d 'show a sandbox'
complete -c stacygate -n __stacygate_first -a exec -d 'run a command in a sandbox'
complete -c stacygate -n __stacygate_first -a cp -d 'copy a file into a sandbox or out of it'
complete -c stacygate -n __stacygate_first -a logs -d 'what a sandbox has logged'
complete -c stacygate -n __stacygate_first -a extend -d 'let a sandbox live longer'
complete -c stacygate -n __stacygate_first -a kill -d 'destroy sandboxes'
complete -c stacygate -n __stacygate_first -a prune -d 'destroy those whose time has passed'
complete -c stacygate -n __stacygate_first -a template -d 'names for what a sandbox is to be'
complete -c stacygate -n __stacygate_first -a preview -d 'where a port of a sandbox is seen'
complete -c stacygate -n __stacygate_first -a leases -d 'what sandboxes are tied to'
complete -c stacygate -n __stacygate_first -a whoami -d 'who you are to the gateway'
complete -c stacygate -n __stacygate_first -a health -d 'how the gateway is'
complete -c stacygate -n __stacygate_first -a status -d 'what the gateway counts of your use'
complete -c stacygate -n __stacygate_first -a top -d 'the same on a terminal, as it changes'
complete -c stacygate -n __stacygate_first -a metrics -d 'what it counts in all, for Prometheus'
complete -c stacygate -n __stacygate_first -a reload -d 'have it read its configuration anew'
complete -c stacygate -n __stacygate_first -a init -d 'write a configuration of the gateway'
complete -c stacygate -n __stacygate_first -a check -d 'check a configuration of the gateway'

complete -c stacygate -n '__stacygate_at template' -a 'ls get save rm spawn'
complete -c stacygate -n '__stacygate_at leases' -a 'renew release'

for on in run spawn 'template save'
    complete -c stacygate -n "__stacygate_on $on" -x -l image -d 'image of the sandbox'
end
for on in run spawn 'template save' 'template spawn'
    complete -c stacygate -n "__stacygate_on $on" -x -l provider -d 'what runs it'
    complete -c stacygate -n "__stacygate_on $on" -x -l memory -d 'memory in megabytes'
    complete -c stacygate -n "__stacygate_on $on" -x -l vcpus -d 'number of processors'
    complete -c stacygate -n "__stacygate_on $on" -x -l ttl -d 'how long it lives at most'
    complete -c stacygate -n "__stacygate_on $on" -x -l metadata -d 'a label, KEY=VALUE'
end
for on in spawn 'template spawn'
    complete -c stacygate -n "__stacygate_on $on" -x -l lease -d 'destroy it when this ends'
end
for on in run exec
    complete -c stacygate -n "__stacygate_on $on" -x -l env -d 'a variable of the environment, KEY=VALUE'
    complete -c stacygate -n "__stacygate_on $on" -x -l workdir -d 'where the command starts'
    complete -c stacygate -n "__stacygate_on $on" -x -l timeout -d 'kill the command after this time'
end
complete -c stacygate -n '__stacygate_on run' -r -F -l file -d 'copy a file into the sandbox first, LOCAL:REMOTE'
complete -c stacygate -n '__stacygate_on logs' -x -l lines -d 'the last lines'
complete -c stacygate -n '__stacygate_on preview' -x -l open-port -d 'serve it on this port of loopback'
complete -c stacygate -n '__stacygate_on init' -x -l upstream -a local -d 'the server'
complete -c stacygate -n '__stacygate_on init' -r -F -l key-file -d 'the file with its key'
complete -c stacygate -n '__stacygate_on init' -l allow-plaintext -d 'the key may cross the network in clear'
complete -c stacygate -n '__stacygate_on init' -x -l user -a '(__fish_complete_users)' -d 'who may use it'
complete -c stacygate -n '__stacygate_on init' -r -F -l output -d 'where it is written'
complete -c stacygate -n '__stacygate_on init' -l force -d 'replace a file that exists'

for on in get exec logs extend preview 'leases renew' 'leases release'
    complete -c stacygate -n "__stacygate_at $on" -a '(__stacygate_column ls)'
end
complete -c stacygate -n '__stacygate_on kill' -a '(__stacygate_column ls)'
complete -c stacygate -n '__stacygate_at check' -F
complete -c stacygate -n '__stacygate_on cp' -F -a '(string replace -r \'$\' : -- (__stacygate_column ls))'
for on in get save rm spawn
    complete -c stacygate -n "__stacygate_at template $on" -a '(__stacygate_column template ls)'
end
