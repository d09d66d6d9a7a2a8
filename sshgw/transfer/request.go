package transfer

import (
	"strconv"
	"strings"
)

// kind is what an answer to a request means for what is watched.
type kind uint8

const (
	kindOther   kind = iota // nothing but its status, if it has an Op
	kindOpen                // a handle for a file
	kindOpendir             // a handle for a folder
	kindClose
	kindRead
	kindWrite
	kindReaddir
	kindStat // a size
	kindResize
	kindCopy   // within the target
	kindSelect // another version
)

// request is one that the target hasn't answered. It stays below 128 bytes, so that a map holds it without an
// allocation each.
type request struct {
	op       Op // what an event says; empty: none
	kind     kind
	how      opening
	path, to string
	detail   string
	file     *file  // what its handle stands for, or what is copied to
	offset   uint64 // of a read or write; the size that is set
	length   uint32 // of a read or write; the version that is selected
}

func (r *request) cost() int { return len(r.path) + len(r.to) + len(r.detail) }

// opening is how a file is opened.
type opening uint8

const (
	opensRead opening = 1 << iota
	opensWrite
	opensAppend
	opensTruncate // or makes a new one: nothing of an older content stays
)

// The bits of SSH_FXP_OPEN up to version 4 (filexfer-02 section 6.3).
const (
	flagRead   = 0x01
	flagWrite  = 0x02
	flagAppend = 0x04
	flagCreate = 0x08
	flagTrunc  = 0x10
	flagExcl   = 0x20
	flagText   = 0x40 // version 4
)

// howOpened3 reads the flags up to version 4. Whatever isn't known to be harmless writes; and what doesn't ask to write
// reads, whether it asks for that or not: OpenSSH's server opens for reading when no flag is set.
func howOpened3(flags uint32) opening {
	var o opening
	if flags&^(flagRead|flagText) != 0 {
		o |= opensWrite
	}
	if flags&flagRead != 0 || flags&flagWrite == 0 {
		o |= opensRead
	}
	if flags&flagAppend != 0 {
		o |= opensAppend
	}
	if flags&(flagTrunc|flagExcl) != 0 {
		o |= opensTruncate
	}
	return o
}

// The bits of SSH_FXP_OPEN from version 5 (filexfer-13 section 8.1.1).
const (
	accessReadOnly  = 0x01 | 0x08 | 0x20 | 0x80 | 0x20000 | 0x100000 // data, named attributes, execute, attributes, ACL, synchronize
	accessReadData  = 0x01
	accessWriteData = 0x02
	accessAppend    = 0x04

	disposition      = 0x07
	createNew        = 0
	createTruncate   = 1
	openExisting     = 2
	truncateExisting = 4
	flagsAppend      = 0x08 | 0x10
	flagsHarmless    = 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 // text mode, locks, no following of links
)

// howOpened5 reads access and flags from version 5, with the same care.
func howOpened5(access, flags uint32) opening {
	var o opening
	if access&^accessReadOnly != 0 || flags&disposition != openExisting || flags&^(disposition|flagsHarmless) != 0 {
		o |= opensWrite
	}
	if access&accessReadData != 0 || access&accessWriteData == 0 {
		o |= opensRead
	}
	if access&accessAppend != 0 || flags&flagsAppend != 0 {
		o |= opensAppend
	}
	switch flags & disposition {
	case createNew, createTruncate, truncateExisting:
		o |= opensTruncate
	}
	return o
}

func (o opening) needs() Rights {
	return Rights{Upload: o&opensWrite != 0, Download: o&opensRead != 0}
}

// op is what a refused or failed opening is called.
func (o opening) op() Op {
	if o&opensWrite != 0 {
		return OpUpload
	}
	return OpDownload
}

var (
	nothing  = Rights{}
	upload   = Rights{Upload: true}
	download = Rights{Download: true}
	both     = Rights{Upload: true, Download: true}
)

// parse reads a request after its id. What isn't known needs both rights. find returns what a handle stands for.
func parse(version uint32, typ byte, f *fields, find func(handle []byte) *file) (r request, needs Rights) {
	switch typ {
	case typeOpen:
		r = request{kind: kindOpen, path: f.path()}
		if version >= 5 {
			access := f.u32()
			r.how = howOpened5(access, f.u32())
		} else {
			r.how = howOpened3(f.u32())
		}
		r.op = r.how.op()
		return r, r.how.needs()
	case typeClose:
		return request{kind: kindClose, file: find(f.bytes())}, nothing
	case typeRead:
		r = request{kind: kindRead, file: find(f.bytes()), offset: f.u64(), length: f.u32()}
		return r, download
	case typeWrite:
		r = request{kind: kindWrite, file: find(f.bytes()), offset: f.u64(), length: f.u32()}
		return r, upload
	case typeLstat, typeStat:
		return request{kind: kindStat, path: f.path()}, nothing
	case typeFstat:
		return request{kind: kindStat, file: find(f.bytes())}, nothing
	case typeSetstat:
		r = request{op: OpSetstat, path: f.path()}
		r.detail, _ = attributes(version, f)
		return r, upload
	case typeFsetstat:
		r = request{op: OpSetstat, file: find(f.bytes())}
		if r.file != nil {
			r.path = r.file.path
		}
		var size *uint64
		if r.detail, size = attributes(version, f); size != nil {
			r.kind, r.offset = kindResize, *size
		}
		return r, upload
	case typeOpendir:
		return request{op: OpList, kind: kindOpendir, path: f.path()}, nothing
	case typeReaddir:
		return request{kind: kindReaddir, file: find(f.bytes())}, nothing
	case typeRealpath, typeReadlink:
		return request{}, nothing
	case typeRemove:
		return request{op: OpRemove, path: f.path()}, upload
	case typeMkdir:
		return request{op: OpMkdir, path: f.path()}, upload
	case typeRmdir:
		return request{op: OpRmdir, path: f.path()}, upload
	case typeRename:
		return request{op: OpRename, path: f.path(), to: f.path()}, upload
	case typeSymlink: // the order is OpenSSH's, which most others follow, and not the draft's
		return request{op: OpSymlink, path: f.path(), to: f.path()}, upload
	case typeLink:
		r = request{op: OpLink, to: f.path(), path: f.path()}
		if f.u8() != 0 {
			r.op = OpSymlink
		}
		return r, upload
	case typeExtended:
		return parseExtended(version, f, find)
	}
	return request{op: OpExtended, detail: "type=" + strconv.Itoa(int(typ))}, both
}

// parseExtended reads an SSH_FXP_EXTENDED after its id.
func parseExtended(version uint32, f *fields, find func(handle []byte) *file) (r request, needs Rights) {
	name := f.bytes()
	switch string(name) {
	case "statvfs@openssh.com", "fstatvfs@openssh.com", "limits@openssh.com", "expand-path@openssh.com", "home-directory",
		"users-groups-by-id@openssh.com", "space-available", "vendor-id":
		return request{}, nothing
	case "fsync@openssh.com":
		return request{}, upload
	case "posix-rename@openssh.com":
		return request{op: OpRename, path: f.path(), to: f.path()}, upload
	case "hardlink@openssh.com":
		return request{op: OpLink, path: f.path(), to: f.path()}, upload
	case "lsetstat@openssh.com":
		r = request{op: OpSetstat, path: f.path()}
		r.detail, _ = attributes(version, f)
		return r, upload
	case "copy-data":
		from := find(f.bytes())
		f.u64()
		f.u64()
		r = request{op: OpCopy, kind: kindCopy, file: find(f.bytes())}
		if from != nil {
			r.path = from.path
		}
		if r.file != nil {
			r.to = r.file.path
		}
		return r, both
	case "version-select":
		v := f.bytes()
		r = request{op: OpExtended, kind: kindSelect, detail: "name=version-select", length: version}
		if len(v) == 1 && v[0] >= '3' && v[0] <= '6' {
			r.length = uint32(v[0] - '0')
		}
		return r, both
	case "copy-file":
		return request{op: OpCopy, path: f.path(), to: f.path()}, both
	case "check-file-name", "md5-hash": // a checksum of a few bytes tells the bytes
		return request{op: OpHash, path: f.path()}, download
	case "check-file-handle", "md5-hash-handle":
		r = request{op: OpHash, file: find(f.bytes())}
		if r.file != nil {
			r.path = r.file.path
		}
		return r, download
	}
	return request{op: OpExtended, detail: "name=" + strconv.QuoteToASCII(string(name[:min(len(name), maxName)]))}, both
}

// attributes words what of a file is set (filexfer-02 section 5); from version 4 only the size is read. They describe,
// and nothing is decided by them, so that what isn't there is left out.
func attributes(version uint32, f *fields) (detail string, size *uint64) {
	a := fields{b: f.b}
	flags := a.u32()
	if version >= 4 {
		a.u8() // type
	}
	var words []string
	word := func(key string, value uint64, base int) {
		if !a.bad {
			words = append(words, key+"="+strconv.FormatUint(value, base))
		}
	}
	if flags&0x1 != 0 {
		n := a.u64()
		size = &n
		word("size", n, 10)
	}
	if version >= 4 {
		return strings.Join(words, " "), size
	}
	if flags&0x2 != 0 {
		word("uid", uint64(a.u32()), 10)
		word("gid", uint64(a.u32()), 10)
	}
	if flags&0x4 != 0 {
		word("mode", uint64(a.u32()&0o7777), 8)
	}
	if flags&0x8 != 0 {
		a.u32()
		word("mtime", uint64(a.u32()), 10)
	}
	return strings.Join(words, " "), size
}
