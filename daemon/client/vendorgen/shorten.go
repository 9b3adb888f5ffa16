package main

import (
	_ "embed"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds what is shown of a name, in bytes.
const maxName = 40

//go:embed names.txt
var namesText string

// names are what some vendors are called, by the words that their names in the
// registry begin with.
var names = parseNames(namesText)

func parseNames(text string) map[string]string {
	names := make(map[string]string)
	for line := range strings.Lines(text) {
		if key, name, found := strings.Cut(line, "="); found && !strings.HasPrefix(line, "#") {
			names[strings.Join(words(key), " ")] = strings.TrimSpace(name)
		}
	}
	return names
}

// words are the words of a name in lower case, without what separates them.
func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// shorten returns what people call a vendor: without legal forms, and not in
// capitals. It is "" for one that wants not to be named.
func shorten(name string) string {
	if name == "Private" {
		return ""
	}
	known := words(name)
	for n := len(known); n > 0; n-- {
		if nice, ok := names[strings.Join(known[:n], " ")]; ok {
			return nice
		}
	}
	name = plain.Replace(name)
	fields := strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.IsSpace(r) || r == '"' {
			return ' '
		}
		return r
	}, name))
	if len(fields) > 1 && legalFirst[bare(fields[0])] {
		fields = fields[1:]
	}
	fields = withoutForms(fields)
	if n := len(fields); n > 0 && len(fields[n-1]) > len("Intl.") && strings.Count(fields[n-1], ".") == 1 {
		fields[n-1] = strings.TrimSuffix(fields[n-1], ".") // of the sentence, not of an abbreviation
	}
	for i, f := range fields {
		fields[i] = capitals(f, i)
	}
	return cut(strings.Trim(strings.Join(fields, " "), " ,;-&/"))
}

// plain separates what only commas and brackets separate.
var plain = strings.NewReplacer("，", ", ", "（", " (", "）", ") ", ",", ", ", "(", " (", ")", ") ", "&amp;", "&", "&quot;", " ", "“", " ", "”", " ")

// withoutForms drops the legal forms at the end of a name, and a place in brackets
// there, but never all of it.
func withoutForms(fields []string) []string {
	for {
		n := len(fields)
		if n < 2 {
			return fields
		}
		last := bare(fields[n-1])
		switch {
		case last == "" || legal[last]:
			n--
		case last == "private" || last == "z" || last == "sp":
			// What was before a form that is dropped by now.
			n--
		case strings.HasSuffix(fields[n-1], ")"):
			for n--; n > 0 && !strings.HasPrefix(fields[n], "("); n-- {
			}
			if n == 0 {
				return fields
			}
		default:
			if i := strings.LastIndexByte(fields[n-1], '.'); i > 0 && legal[bare(fields[n-1][i:])] { // "BUFFALO.INC"
				fields[n-1] = fields[n-1][:i]
				continue
			}
			return fields
		}
		fields = fields[:n]
	}
}

// bare is a word in lower case without dots, commas, dashes and the like.
func bare(word string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, strings.NewReplacer("(", "~(", ")", ")~").Replace(word))
}

func set(words string) map[string]bool {
	m := make(map[string]bool)
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

// Legal forms as bare words: at the end and at the beginning of a name.
var (
	legal = set(`inc incorporated ltd limited ltda lt co company corp corporation coltd coinc ltdco colimited coltda
		corpltd incltd gmbh mbh gesmbh gmbhco gmbhcokg kg cokg ag kgaa ohg ek ug se sa sas sasu sarl eurl sau slu sl
		srl srlu spa snc sapa bv nv bvba cv ab oy oyj as aps asa sro spol zspo zs doo dd ad eood ood kft zrt nyrt rt
		oo llc llp lp plc pbc pte pty pvt kk sdn bhd jsc ojsc ooo zao uab sia ou oü cie intl tbk
		eirl ltdsti sti san tic ve sac cia`)
	legalFirst = set("ooo zao oao pao jsc ojsc cjsc llc pt uab sia zakritoe")
)

// capitals writes a word that is all capitals as other words are, except for short
// ones, which are as a rule abbreviations.
func capitals(word string, position int) string {
	const longestAbbreviation = 4
	if position > 0 && small[word] {
		return strings.ToLower(word)
	}
	var b strings.Builder
	for part := range splitWord(word) {
		if utf8.RuneCountInString(part) > longestAbbreviation && strings.ToUpper(part) == part && !strings.ContainsFunc(part, unicode.IsDigit) {
			r, n := utf8.DecodeRuneInString(part)
			b.WriteRune(r)
			part = strings.ToLower(part[n:])
		}
		b.WriteString(part)
	}
	return b.String()
}

var small = set("AND OF FOR THE DE DI DU LA E Y UND")

// splitWord yields the runs of letters of a word and what is between them. A word
// with a digit is a run.
func splitWord(word string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if strings.ContainsFunc(word, unicode.IsDigit) {
			yield(word)
			return
		}
		from, before := 0, false
		for i, r := range word {
			letter := unicode.IsLetter(r) || r == '\''
			if i > 0 && letter != before {
				if !yield(word[from:i]) {
					return
				}
				from = i
			}
			before = letter
		}
		yield(word[from:])
	}
}

// cut ends a long name after a word, and before a bracket that is not closed.
func cut(name string) string {
	if len(name) > maxName {
		end := maxName
		for !utf8.RuneStart(name[end]) {
			end--
		}
		if i := strings.LastIndexByte(name[:end], ' '); i > 0 && name[end] != ' ' {
			end = i
		}
		name = name[:end]
	}
	if i := strings.LastIndexByte(name, '('); i > strings.LastIndexByte(name, ')') {
		name = name[:i]
	}
	return strings.TrimRight(name, " ,;-&/")
}
