/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"

#define IMAGE_OPTION "  --image IMAGE        image of the sandbox (default: the server's)\n"

#define FIELD_OPTIONS                                                                                                  \
	"  --provider NAME      what runs it (default: the server's)\n"                                                \
	"  --memory MB          memory in megabytes\n"                                                                 \
	"  --vcpus N            number of processors\n"                                                                \
	"  --ttl DURATION       how long it lives at most, such as 90s, 5m, 1h30m\n"                                   \
	"  --metadata KEY=VALUE a label, any number of times\n"

#define LEASE_OPTION                                                                                                   \
	"  --lease LEASE        destroy it when this ends: a duration such as 90s (from now on, until renewed),\n"     \
	"                       process=PID (one of yours that runs this command, such as process=$$ in a shell);\n"   \
	"                       process and connection mean this command itself, which ends at once\n"

#define EXEC_OPTIONS                                                                                                   \
	"  --env KEY=VALUE      a variable of the command's environment, any number of times\n"                        \
	"  --workdir DIR        where the command starts\n"                                                            \
	"  --timeout DURATION   kill the command after this time\n"

#define COMMON_OPTIONS                                                                                                 \
	"  --json               JSON instead of text for people, errors too\n"                                         \
	"  -h, --help           this text\n"

#define EXEC_STATUS                                                                                                    \
	"\n"                                                                                                           \
	"Exit status: the command's own; 128+N if signal N ended it; 124 after --timeout; 127 if there is "            \
	"no\n"                                                                                                         \
	"such program, 126 if it cannot be run; 255 if it left no status behind (its shell was killed).\n"             \
	"1 for an error of the API or the connection, 2 for wrong usage: the text on standard error tells\n"           \
	"those from a command that ended with 1 or 2.\n"                                                               \
	"\n"                                                                                                           \
	"Standard input does not reach the command. Output that is not UTF-8 loses bytes on its way "                  \
	"through\n"                                                                                                    \
	"the API: copy a file instead (stacygate cp). With --json each piece of output is a line\n"                    \
	"{\"stream\":...,\"data\":...}, and the last line is {\"exit_code\":N,\"duration\":\"...\"}.\n"

static const char *const texts[VERB_COUNT] = {
	[VERB_RUN] = "usage: stacygate run [OPTION]... [--] COMMAND [ARGUMENT]...\n"
		     "\n"
		     "Makes a sandbox, runs the command in it, shows its output as it comes, and destroys the\n"
		     "sandbox whatever happens (an error, Ctrl-C, SIGTERM, SIGHUP, a closed pipe).\n"
		     "The words are the program and its arguments, exactly; for shell syntax run sh -c '...'.\n"
		     "\n"
		     "  --file LOCAL:REMOTE  copy a file into the sandbox first, any number of "
		     "times\n" IMAGE_OPTION FIELD_OPTIONS EXEC_OPTIONS COMMON_OPTIONS EXEC_STATUS,
	[VERB_SPAWN] = "usage: stacygate spawn [OPTION]...\n"
		       "\n"
		       "Makes a sandbox and prints its id.\n"
		       "\n" IMAGE_OPTION FIELD_OPTIONS LEASE_OPTION COMMON_OPTIONS,
	[VERB_LS] = "usage: stacygate ls [OPTION]...\n"
		    "\n"
		    "Lists the sandboxes.\n"
		    "\n" COMMON_OPTIONS,
	[VERB_GET] = "usage: stacygate get [OPTION]... ID\n"
		     "\n"
		     "Shows a sandbox.\n"
		     "\n" COMMON_OPTIONS,
	[VERB_EXEC] = "usage: stacygate exec [OPTION]... ID [--] COMMAND [ARGUMENT]...\n"
		      "\n"
		      "Runs a command in a sandbox and shows its output as it comes. Ctrl-C ends the command.\n"
		      "The words are the program and its arguments, exactly; for shell syntax run sh -c '...'.\n"
		      "\n" EXEC_OPTIONS COMMON_OPTIONS EXEC_STATUS,
	[VERB_CP] = "usage: stacygate cp LOCAL ID:PATH\n"
		    "       stacygate cp ID:PATH LOCAL\n"
		    "\n"
		    "Copies one file into a sandbox or out of it, byte for byte, with its permissions. Size and\n"
		    "checksum are compared; after any fault the target is what it was. A directory as target "
		    "gets\n"
		    "the file under its own name; \"-\" is standard input or output. PATH is below /workspace\n"
		    "unless it begins with a slash. A local name with a colon is written ./a:b.\n"
		    "\n" COMMON_OPTIONS,
	[VERB_LOGS] = "usage: stacygate logs [OPTION]... ID\n"
		      "\n"
		      "Prints what a sandbox has logged; on a terminal control bytes are shown as \\xNN.\n"
		      "\n"
		      "  --lines N            the last N lines (default: 100)\n" COMMON_OPTIONS,
	[VERB_EXTEND] = "usage: stacygate extend [OPTION]... ID [TTL]\n"
			"\n"
			"Lets a sandbox live for TTL from now on, such as 90s, 5m, 1h30m (default: 30m).\n"
			"\n" COMMON_OPTIONS,
	[VERB_KILL] = "usage: stacygate kill ID...\n"
		      "\n"
		      "Destroys sandboxes and prints the ids of those that are gone.\n"
		      "\n" COMMON_OPTIONS,
	[VERB_PRUNE] = "usage: stacygate prune [OPTION]...\n"
		       "\n"
		       "Destroys the sandboxes whose time has passed, and says how many.\n"
		       "\n" COMMON_OPTIONS,
	[VERB_TEMPLATE] = "usage: stacygate template ls\n"
			  "       stacygate template get NAME\n"
			  "       stacygate template save NAME --image IMAGE [OPTION]...\n"
			  "       stacygate template rm NAME\n"
			  "       stacygate template spawn NAME [OPTION]...\n"
			  "\n"
			  "Templates are names for what a sandbox is to be.\n"
			  "\n"
			  "  -h, --help           this text; stacygate template COMMAND --help tells more\n",
	[VERB_TEMPLATE_LS] = "usage: stacygate template ls [OPTION]...\n"
			     "\n"
			     "Lists the templates.\n"
			     "\n" COMMON_OPTIONS,
	[VERB_TEMPLATE_GET] = "usage: stacygate template get [OPTION]... NAME\n"
			      "\n"
			      "Shows a template.\n"
			      "\n" COMMON_OPTIONS,
	[VERB_TEMPLATE_SAVE] = "usage: stacygate template save NAME --image IMAGE [OPTION]...\n"
			       "\n"
			       "Makes a template, or replaces the one of that name.\n"
			       "\n"
			       "  --image IMAGE        image of its sandboxes\n" FIELD_OPTIONS COMMON_OPTIONS,
	[VERB_TEMPLATE_RM] = "usage: stacygate template rm [OPTION]... NAME\n"
			     "\n"
			     "Removes a template. Sandboxes that were made from it stay.\n"
			     "\n" COMMON_OPTIONS,
	[VERB_TEMPLATE_SPAWN] =
		"usage: stacygate template spawn [OPTION]... NAME\n"
		"\n"
		"Makes a sandbox from a template and prints its id. Options go before what the template says.\n"
		"\n" FIELD_OPTIONS LEASE_OPTION COMMON_OPTIONS,
	[VERB_PREVIEW] =
		"usage: stacygate preview [OPTION]... ID PORT\n"
		"\n"
		"Prints the URL under which a port of a sandbox is seen, or serves it here.\n"
		"\n"
		"  --open-port N        serve it on port N of 127.0.0.1 and ::1 (0: any free one, printed) until\n"
		"                       interrupted, to your own processes and browser alone\n" COMMON_OPTIONS,
	[VERB_LEASES] = "usage: stacygate leases [OPTION]...\n"
			"       stacygate leases renew ID [LEASE]\n"
			"       stacygate leases release ID\n"
			"\n"
			"Lists the sandboxes that are tied to a process, a connection or a clock, and to which.\n"
			"\n" COMMON_OPTIONS,
	[VERB_LEASES_RENEW] =
		"usage: stacygate leases renew [OPTION]... ID [LEASE]\n"
		"\n"
		"Renews what a sandbox is tied to, or ties it to LEASE from now on: a duration such as 90s,\n"
		"or process=PID of one of your processes that runs this command.\n"
		"\n" COMMON_OPTIONS,
	[VERB_LEASES_RELEASE] = "usage: stacygate leases release [OPTION]... ID\n"
				"\n"
				"Unties a sandbox: it lives to the ttl that was asked for.\n"
				"\n" COMMON_OPTIONS,
	[VERB_WHOAMI] = "usage: stacygate whoami [OPTION]...\n"
			"\n"
			"Shows who you are to the gateway, and what that allows.\n"
			"\n" COMMON_OPTIONS,
	[VERB_HEALTH] = "usage: stacygate health [OPTION]...\n"
			"\n"
			"Shows the gateway's health. Exit status 1 if it is not well.\n"
			"\n" COMMON_OPTIONS,
	[VERB_STATUS] = "usage: stacygate status [OPTION]...\n"
			"\n"
			"Shows what the gateway counts of your own use; to an admin, of all.\n"
			"\n" COMMON_OPTIONS,
	[VERB_TOP] = "usage: stacygate top [OPTION]...\n"
		     "\n"
		     "Shows on a terminal how the gateway is, anew every second: rates, upstreams with their pools,\n"
		     "owners, requests under way, errors, rules; to those without `admin: true`, their own part.\n"
		     "Goes on when the gateway is started anew. Keys: h tells them, q leaves. NO_COLOR: no colours.\n"
		     "\n"
		     "  --json               the gateway's status, one document a line, until interrupted; errors too\n"
		     "  -h, --help           this text\n",
	[VERB_METRICS] = "usage: stacygate metrics [OPTION]...\n"
			 "\n"
			 "Prints what the gateway counts, as Prometheus reads it. The rule must allow it (metrics).\n"
			 "\n" COMMON_OPTIONS,
	[VERB_RELOAD] = "usage: stacygate reload [OPTION]...\n"
			"\n"
			"Has the gateway read its configuration anew, for an admin. A faulty one changes nothing: its\n"
			"faults are shown with their lines, and the exit status is 1.\n"
			"\n" COMMON_OPTIONS,
	[VERB_INIT] =
		"usage: stacygate init [OPTION]...\n"
		"\n"
		"Writes a configuration of the gateway to begin with, once stacygated -t finds it good, and prints\n"
		"its name. What is missing is asked for on the terminal.\n"
		"\n"
		"  --upstream URL       the server: local, unix:///PATH, http://HOST:PORT or https://HOST:PORT\n"
		"  --key-file PATH      the file with its key; local needs none\n"
		"  --allow-plaintext    the key may cross the network in clear: for http:// to another machine\n"
		"  --user NAME          who may use it, any number of times (default: yourself); with others it\n"
		"                       listens on /run/stacygate/stacygate.sock; root is an admin beside them\n"
		"  --output FILE        default: where stacygated looks when you start it\n"
		"  --force              replace a file that exists\n" COMMON_OPTIONS,
	[VERB_CHECK] = "usage: stacygate check [OPTION]... FILE\n"
		       "\n"
		       "Checks a configuration of the gateway as stacygated -t does, which needs no gateway that\n"
		       "runs: every fault with its line and column, as the daemon would find it that you can start.\n"
		       "With --json: {\"ok\":...,\"faults\":[...],\"warnings\":[...]}.\n"
		       "\n" COMMON_OPTIONS "\n"
		       "Exit status: 0 it is good, 1 it has faults, 3 the daemon could not look.\n",
};

const char *help_program(void)
{
	return "usage: stacygate COMMAND [OPTION]...\n"
	       "\n"
	       "Runs code in StacyVM sandboxes through the local gateway.\n"
	       "\n"
	       "  run              make a sandbox, run a command in it, destroy it\n"
	       "  spawn            make a sandbox\n"
	       "  ls               list sandboxes\n"
	       "  get              show a sandbox\n"
	       "  exec             run a command in a sandbox\n"
	       "  cp               copy a file into a sandbox or out of it\n"
	       "  logs             what a sandbox has logged\n"
	       "  extend           let a sandbox live longer\n"
	       "  kill             destroy sandboxes\n"
	       "  prune            destroy those whose time has passed\n"
	       "  template ls      list templates\n"
	       "  template get     show a template\n"
	       "  template save    make or replace a template\n"
	       "  template rm      remove a template\n"
	       "  template spawn   make a sandbox from a template\n"
	       "  preview          where a port of a sandbox is seen\n"
	       "  leases           what sandboxes are tied to\n"
	       "  leases renew     renew a lease, or tie a sandbox to something else\n"
	       "  leases release   untie a sandbox\n"
	       "  whoami           who you are to the gateway\n"
	       "  health           how the gateway is\n"
	       "  status           what the gateway counts of your use\n"
	       "  top              the same on a terminal, as it changes\n"
	       "  metrics          what it counts in all, for Prometheus\n"
	       "  reload           have it read its configuration anew\n"
	       "  init             write a configuration of the gateway\n"
	       "  check            check a configuration of the gateway\n"
	       "\n"
	       "  -h, --help     this text; stacygate COMMAND --help tells more\n"
	       "  -V, --version  version\n"
	       "\n"
	       "The gateway's socket is STACYGATE_SOCKET, else the first that exists of\n"
	       "$XDG_RUNTIME_DIR/stacygate.sock and /run/stacygate/stacygate.sock.\n"
	       "\n"
	       "Exit status: 0 done; 1 error of the API or the connection; 2 wrong usage; run and exec end "
	       "with the\n"
	       "command's own. Stopped by a signal, the client cleans up and then ends by that signal.\n";
}

const char *help_verb(enum verb verb)
{
	return texts[verb];
}
