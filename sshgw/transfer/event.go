package transfer

import (
	"errors"
	"fmt"
	"strconv"
)

// Rights are what a transfer may do. The zero value only lists.
type Rights struct {
	Upload   bool // change anything at the target
	Download bool // read what files hold
}

// Full reports that nothing is limited.
func (r Rights) Full() bool { return r.Upload && r.Download }

// allows reports whether r has all of what is needed.
func (r Rights) allows(needed Rights) bool {
	return (r.Upload || !needed.Upload) && (r.Download || !needed.Download)
}

// Op is what was done, in the word for the record.
type Op string

// The operations.
const (
	OpUpload   Op = "upload"   // content to Path
	OpDownload Op = "download" // content from Path
	OpList     Op = "list"     // a folder's entries
	OpMkdir    Op = "mkdir"
	OpRmdir    Op = "rmdir"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"   // Path to To
	OpSymlink  Op = "symlink"  // To is made, and points to Path
	OpLink     Op = "link"     // To is made, a hard link to Path
	OpSetstat  Op = "setstat"  // size, mode, owner or times
	OpCopy     Op = "copy"     // Path to To, within the target
	OpHash     Op = "hash"     // the target was asked for a checksum of content
	OpExtended Op = "extended" // a request this package doesn't know; Detail names it
	OpRsync    Op = "rsync"    // a whole rsync conversation
	OpSCP      Op = "scp"      // what an scp conversation said that belongs to no file
)

// Event is one operation that has ended. Its strings are what the peers sent, bounded in length but not made printable.
type Event struct {
	Op     Op
	Path   string // at the target, as the client wrote it
	To     string // the second path of a rename, link or copy
	Name   string // scp: the name that was sent, with its folders; it stands below Path, or in its place
	Bytes  int64  // of content that passed
	SHA256 string // of that content in hex, where it passed in order and from the file's start; else empty, and Detail says why
	Result string // "ok", a status in the protocol's words, "unanswered" or "not_closed"
	// Partial: what passed isn't the whole file, as far as can be told.
	Partial bool
	Detail  string // words and key=value pairs, separated by blanks
}

// Results that no target has sent.
const (
	resultOK         = "ok"
	resultUnanswered = "unanswered" // the conversation ended before the answer
	resultOpen       = "not_closed" // the conversation ended before the file was closed
)

// Why there is no SHA-256, or a doubt about it: words in Event.Detail.
const (
	detailNotFromStart = "not_from_start"   // the first byte that passed wasn't the file's first
	detailOutOfOrder   = "out_of_order"     // bytes passed in another order, or twice
	detailAppend       = "append"           // opened for appending: what passed is the file's end
	detailWriteFailed  = "write_failed"     // the target has refused some of it
	detailResized      = "resized"          // its size was set while it was open
	detailCopied       = "copied_at_target" // some of its content never passed
	detailGaps         = "gaps"             // some ranges never passed
	detailOpen         = "not_truncated"    // an older, longer content may stand behind what was written
	detailUnknown      = "unknown_handle"   // content of files that were not opened in a way that is known here
	detailReused       = "handle_reused"    // the target gave the handle to another file before this one was closed
	detailRefused      = "refused"          // by the rights; the target hasn't seen it
	detailTooMany      = "too_many_open"    // by a bound of this package; the target hasn't seen it
	detailUnwatched    = "unwatched"        // from here on bytes passed that were not understood
)

// ErrProtocol is wrapped by every error that says that a peer doesn't speak the protocol, or exceeds a bound. The
// transfer must be ended.
var ErrProtocol = errors.New("file transfer ended")

// errEnded is for those who go on after End.
var errEnded = errors.New("file transfer: used after its end")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// statusWords are the codes of SSH_FXP_STATUS, up to version 6 (draft-ietf-secsh-filexfer-13 section 9.1).
var statusWords = [...]string{
	resultOK, "eof", "no_such_file", "permission_denied", "failure", "bad_message", "no_connection", "connection_lost",
	"op_unsupported", "invalid_handle", "no_such_path", "file_already_exists", "write_protect", "no_media",
	"no_space_on_filesystem", "quota_exceeded", "unknown_principal", "lock_conflict", "dir_not_empty", "not_a_directory",
	"invalid_filename", "link_loop", "cannot_delete", "invalid_parameter", "file_is_a_directory",
	"byte_range_lock_conflict", "byte_range_lock_refused", "delete_pending", "file_corrupt", "owner_invalid",
	"group_invalid", "no_matching_byte_range_lock",
}

func statusWord(code uint32) string {
	if code < uint32(len(statusWords)) {
		return statusWords[code]
	}
	return "status_" + strconv.FormatUint(uint64(code), 10)
}
