package specfile

import "strings"

// elsewhere are keys that other supervisors have (in lower case, without - and
// _), by what they are here. Whoever comes from there is told so;
// examples/coming-from has the rest.
var elsewhere = byWord(map[string]string{
	"`command` and `args`":               "cmd script exec execstart entrypoint program interpreter nodeargs shell",
	"`programs`":                         "services processes apps units watchers layers",
	"`instances`":                        "numprocs numprocesses replicas scale count singleton",
	"`instances: 0`, until it is scaled": "autostart startup disabled enabled",
	"`dir`":                              "directory cwd workingdir workingdirectory chdir",
	"`env`":                              "environment envs",
	"`env_files`":                        "envfile environmentfile envfiles envdir",
	"`inherit_env`":                      "copyenv passenvironment",
	"`user`":                             "userid username setuid",
	"`group`":                            "groupid setgid",
	"`groups`":                           "supplementarygroups",
	"`restart.when`":                     "autorestart respawn restartpolicy onfailure onsuccess availability",
	"`success_exit`":                     "exitcodes stopexitcodes successexitstatus successexitcodes",
	"`restart.when`, a list of codes":    "restartpreventexitstatus restartforceexitstatus",
	"`start.min_uptime`":                 "startsecs minuptime warmupdelay startretrysecs launchtimeoutseconds listentimeout timeoutstartsec",
	"`restart.give_up`":                  "startretries maxrestarts maxretry startlimitburst",
	"`restart.delay`":                    "restartsec restartdelay backoffdelay backoffseconds expbackoffrestartdelay",
	"`restart.factor`":                   "backofffactor",
	"`restart.max_delay`":                "backofflimit restartmaxdelaysec",
	"`restart.flap`":                     "flapping startlimitintervalsec",
	"`stop.signal`":                      "stopsignal killsignal downsignal",
	"`stop.timeout`":                     "stopwaitsecs gracefultimeout killtimeout killdelay timeoutstopsec timeoutkill stoptimeout",
	"`stop`":                             "shutdown",
	"`stop.before`":                      "execstop prestop beforestop",
	"`on`":                               "hooks onevent eventlistener execstoppost execstartpost finish",
	"`start.after`":                      "dependson after requires before priority wants bindsto dependencies execstartpre",
	"`output.mode`":                      "redirectstderr stdoutlogfile stderrlogfile standardoutput standarderror outfile errorfile logfile stdoutstream stderrstream loglocation",
	"`output.rotate`":                    "stdoutlogfilemaxbytes stdoutlogfilebackups logconfiguration maxbytes backupcount",
	"`output.timestamps`":                "logdateformat timestamps",
	"`limits`":                           "rlimits ulimits limitnofile limitnproc limitcore rlimitnofile minfds minprocs",
	"`cgroup.memory_max`":                "maxmemoryrestart memorymax memorylimit memory",
	"`cgroup.cpu_max`":                   "cpuquota",
	"`cgroup.pids_max`":                  "tasksmax",
	"`cpus`":                             "cpuaffinity affinity",
	"`sched`":                            "cpuschedulingpolicy",
	"`ionice`":                           "ioschedulingclass ioprio",
	"`oom_score_adj`":                    "oomscoreadjust oomscoreadj",
	"`capabilities`":                     "ambientcapabilities capabilityboundingset",
	"`no_new_privs`":                     "nonewprivileges",
	"not needed: all that it started always ends":                                 "stopasgroup killasgroup stopchildren killmode",
	"`update.max_unavailable`":                                                    "maxparallel",
	"there is no such key: examples/coming-from/README.md has ways to do without": "watch cron cronrestart schedule timer socket sockets readinessprobe livenessprobe checks healthcheck notify notificationfd watchdogsec type chroot rootdirectory namespace execmode",
})

func byWord(words map[string]string) map[string]string {
	out := map[string]string{}
	for here, list := range words {
		for word := range strings.FieldsSeq(list) {
			out[word] = here
		}
	}
	return out
}

// cameFrom says what a key of another supervisor is here; empty is that it is
// none.
func cameFrom(key string) string {
	here := elsewhere[strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(key))]
	if strings.HasPrefix(here, "`") {
		return "here it is " + here
	}
	return here
}
