package name

// covers are the public names of Encrypted Client Hello (RFC 9849): what a client
// states in clear text while the name that it means is encrypted. Each stands for
// all that its operator serves so.
var covers = map[string]bool{
	"cloudflare-ech.com":    true,
	"cloudflare-esni.com":   true, // Cloudflare's, of the drafts
	"cover.defo.ie":         true, // of a public test, as the next
	"public.tls-ech.dev":    true,
	"ech-public.atmeta.com": true,
}

// IsCover tells whether a name that a client states stands for others.
func IsCover(name string) bool { return covers[name] }
