package login

import (
	"sallyport/internal/audit"
	"sallyport/internal/policy"
)

// The words of policy and of the record that adapters and verbs need, so that they import the domain and nothing
// behind it.
type (
	Kind       = policy.Kind       // of factor
	Capability = policy.Capability // what a rule may permit
	Rule       = policy.Rule
	Rules      = policy.Rules
	Result     = audit.Result
	Receipt    = audit.Receipt
	Factor     = audit.Factor
)

// The kinds of factor.
const (
	Know = policy.Know // a password
	Have = policy.Have // a one-time code, a key
	Are  = policy.Are  // a biometric
)

// What a rule may permit.
const (
	MayLogin    = policy.Login
	MayShell    = policy.Shell
	MayExec     = policy.Exec
	MaySFTP     = policy.SFTP
	MayUpload   = policy.Upload
	MayDownload = policy.Download
	MayForward  = policy.Forward
	MayAgent    = policy.Agent
)

// How what a record tells of ended.
const (
	Accept = audit.Accept
	Reject = audit.Reject
	Failed = audit.Error
	Info   = audit.Info
)

// Preview tells what the rules in force would say of somebody in these groups, for `explain`. It opens nothing.
func (g *Gate) Preview(r Request) policy.Verdict {
	return g.permit(g.policy.Load(), r, g.now())
}
