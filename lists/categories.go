package lists

// Categories are those of services.
var Categories = []string{
	"video", "music", "social", "messaging", "games", "shopping", "finance", "news", "search", "mail",
	"work", "cloud", "storage", "development", "updates", "devices", "education", "travel", "transport",
	"food", "health", "government", "adult", "gambling", "dating", "reference", "vpn", "encrypted-dns",
	"ai", "telecom", "photo", "sport", "jobs", "software", "cdn", "other",
}

// HiddenCategories are those for which names are hidden; the last is of the
// owner's own files. (At most 14: they are stored in four bits.)
var HiddenCategories = []string{
	"advertising", "tracking", "telemetry", "certificates", "connectivity", "time", "browser", "cdn",
	"ignored",
}

// ignored is the category of the owner's own files, as it is stored.
var ignored = uint8(len(HiddenCategories))
