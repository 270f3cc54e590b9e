// Command guestd is the agent of a lab machine: it runs processes, opens
// shells and moves files on behalf of the host.
//
//	GET  /status                    boot id, and what went wrong during set-up
//	POST /exec                      body: agent.Exec; reply: frames, exit code in the trailer
//	POST /shell?rows=R&cols=C&id=I  upgrades to the raw bytes of a terminal
//	POST /resize?rows=R&cols=C&id=I tells that terminal its new size
//	PUT  /file?path=P&mode=0644     writes P through a temporary file
//	GET  /file?path=P               reads P
//
// It owns nothing but the processes it started. Invariants:
//
//  1. A process, with all of its process group, ends when the connection that
//     asked for it does.
//  2. It answers only once the machine's set-up is over: init starts it then.
//
// It trusts whoever can reach it: its network has nobody else on it.
package main
