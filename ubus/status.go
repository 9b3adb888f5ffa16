package ubus

import "strconv"

// Status is the outcome of a request. Any number may come from a provider; those below have names.
type Status uint32

const (
	StatusOK               Status = 0
	StatusInvalidCommand   Status = 1
	StatusInvalidArgument  Status = 2
	StatusMethodNotFound   Status = 3
	StatusNotFound         Status = 4
	StatusNoData           Status = 5
	StatusPermissionDenied Status = 6
	StatusTimeout          Status = 7
	StatusNotSupported     Status = 8
	StatusUnknownError     Status = 9
	StatusConnectionFailed Status = 10
	StatusNoMemory         Status = 11
	StatusParseError       Status = 12
	StatusSystemError      Status = 13
)

var statusText = [...]string{
	"Success",
	"Invalid command",
	"Invalid argument",
	"Method not found",
	"Not found",
	"No response",
	"Permission denied",
	"Request timed out",
	"Operation not supported",
	"Unknown error",
	"Connection failed",
	"Out of memory",
	"Parsing message data failed",
	"System error",
}

// Error is the text that the `ubus` command prints for the status.
func (s Status) Error() string {
	if int64(s) < int64(len(statusText)) {
		return statusText[s]
	}
	return "Unknown error (status " + strconv.FormatInt(int64(int32(s)), 10) + ")"
}

// Err is nil for StatusOK, else the status.
func (s Status) Err() error {
	if s == StatusOK {
		return nil
	}
	return s
}
