package uci

// A file is a configuration file while it is read.
type file struct {
	reader
	pkg     *Package
	section int // index of the section that options go to, -1 before the first
}

// parseFile reads the text of a configuration file.
func parseFile(name string, text []byte) (*Package, error) {
	f := &file{reader: reader{rest: text}, pkg: &Package{Name: name}, section: -1}
	for f.next() {
		if err := f.commands(); err != nil {
			return nil, err
		}
	}
	return f.pkg, nil
}

// commands reads a line: a command, or several with ';' between them.
func (f *file) commands() error {
	f.skipSpace()
	for {
		word := f.keyword()
		if word == "" || word[0] == '#' {
			return nil
		}
		var err error
		switch word {
		case "package", "p":
			err = f.parsePackage(word)
		case "config", "c":
			err = f.parseConfig(word)
		case "option", "o":
			err = f.parseOption(word, (*Section).setUnlessEmpty)
		case "list", "l":
			err = f.parseOption(word, (*Section).add)
		default:
			err = f.errorf("invalid command")
		}
		if err != nil {
			return err
		}
	}
}

// parsePackage reads a `package NAME` line, which changes nothing: the name of
// the file decides.
func (f *file) parsePackage(word string) error {
	if !f.skipKeyword(word) {
		return f.errorf("package without name")
	}
	name, err := f.required()
	if err != nil {
		return err
	}
	if !validName(name, true) {
		return f.errorf("invalid character in name field")
	}
	return f.endOfCommand()
}

func (f *file) parseConfig(word string) error {
	if !f.skipKeyword(word) {
		return f.errorf("config without name")
	}
	typ, err := f.required()
	if err != nil {
		return err
	}
	if !validType(typ) {
		return f.errorf("invalid character in type field")
	}
	name, err := f.arg()
	if err != nil {
		return err
	}
	if name != "" && !validName(name, false) {
		return f.errorf("invalid character in name field")
	}
	if err := f.endOfCommand(); err != nil {
		return err
	}
	return f.openSection(typ, name)
}

// openSection begins a section, or goes on with the one of that name.
func (f *file) openSection(typ, name string) error {
	if name != "" {
		if i := f.pkg.index(name); i >= 0 {
			if f.pkg.Sections[i].Type != typ {
				return f.errorf("section of different type overwrites prior section with same name")
			}
			f.section = i
			return nil
		}
	}
	f.section = len(f.pkg.Sections)
	s := Section{Type: typ, Name: name, Anonymous: name == ""}
	if s.Anonymous {
		s.Name = anonymousName(f.section+1, typ)
	}
	f.pkg.Sections = append(f.pkg.Sections, s)
	return nil
}

func (f *file) parseOption(word string, store func(s *Section, name, value string)) error {
	if f.section < 0 {
		return f.errorf("option/list command found before the first section")
	}
	if !f.skipKeyword(word) {
		return f.errorf("option without name")
	}
	name, err := f.required()
	if err != nil {
		return err
	}
	if !validName(name, false) {
		return f.errorf("invalid character in name field")
	}
	value, err := f.arg()
	if err != nil {
		return err
	}
	if err := f.endOfCommand(); err != nil {
		return err
	}
	store(&f.pkg.Sections[f.section], name, value)
	return nil
}

// required reads an argument that must not be empty.
func (f *file) required() (string, error) {
	s, err := f.arg()
	if err == nil && s == "" {
		err = f.errorf("insufficient arguments")
	}
	return s, err
}

func (f *file) endOfCommand() error {
	s, err := f.arg()
	if err == nil && s != "" {
		err = f.errorf("too many arguments")
	}
	return err
}
