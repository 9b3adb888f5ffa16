package suricata

// dns decodes the three formats: 1 (one event a record), 2 (rrname at the top)
// and 3 (the names asked for are an array).
func (d *Decoder) dns(i int) int {
	var (
		m                  = &d.ev.DNS
		kind, data         []byte
		asked              Record // the first of queries
		ttl, id, version   uint64
		answersAt, grouped int // where they begin; 0: nowhere
	)
	start := i
	i, more := d.open(i, '{', '}')
	last := uint8(0)
	for more {
		key, j := d.member(i, dnsKeys, &d.orders.dns, last)
		if j < 0 {
			return -1
		}
		switch key {
		case keyVersion:
			version, j = d.number(j, 3)
		case keyType:
			kind, j = d.text(j)
		case keyID:
			id, j = d.number(j, 1<<16-1)
		case keyRRName:
			m.Name, j = d.text(j)
		case keyRRType:
			m.Type, j = d.text(j)
		case keyRCode:
			m.RCode, j = d.text(j)
		case keyRData:
			data, j = d.textOrOther(j)
		case keyTTL:
			ttl, j = d.number(j, 1<<32-1)
		case keyQueries:
			asked, j = d.query(j)
		case keyAnswers:
			answersAt = j
			j = d.answers(j)
		case keyGrouped:
			grouped = j
			j = d.skip(j)
		default:
			j = d.skip(j)
		}
		if j < 0 {
			return d.in(dnsKeys, key)
		}
		i, more = d.more(j, '}')
		last = key
	}
	if i < 0 {
		return -1
	}
	m.ID, m.Version = uint16(id), max(int(version), 1) // format 1 did not always say so
	if m.Version >= 3 {
		m.Name, m.Type = asked.Name, asked.Type
	}
	switch string(kind) {
	case "query", "request":
		m.Answer = false
	case "answer", "response":
		m.Answer = true
	default:
		d.err.Field = "type"
		return d.fail(ErrValue, start)
	}
	if m.Version == 1 && answersAt == 0 && len(data) > 0 {
		m.Answers = append(m.Answers, Record{Name: m.Name, Type: m.Type, Data: data, TTL: uint32(ttl)})
	}
	if grouped > 0 && len(m.Answers) == 0 && d.grouped(grouped) < 0 {
		return d.in(dnsKeys, keyGrouped)
	}
	return i
}

// textOrOther reads a string, and passes over anything else: the data of some
// record types are objects.
func (d *Decoder) textOrOther(i int) (v []byte, next int) {
	if d.at(i) == '"' {
		return d.text(i)
	}
	return nil, d.skip(i)
}

// query returns the first of the names asked for.
func (d *Decoder) query(i int) (first Record, next int) {
	if d.isNull(i) {
		return first, i + 4
	}
	i, more := d.open(i, '[', ']')
	for n := 0; more; n++ {
		var r Record
		if r, i = d.record(i); i < 0 {
			return first, -1
		}
		if n == 0 {
			first = r
		}
		i, more = d.more(i, ']')
	}
	return first, i
}

func (d *Decoder) answers(i int) int {
	m := &d.ev.DNS
	m.Answers = m.Answers[:0]
	if d.isNull(i) {
		return i + 4
	}
	i, more := d.open(i, '[', ']')
	for more {
		var r Record
		if r, i = d.record(i); i < 0 {
			return -1
		}
		d.add(r)
		i, more = d.more(i, ']')
	}
	return i
}

func (d *Decoder) add(r Record) {
	if m := &d.ev.DNS; len(m.Answers) < MaxRecords {
		m.Answers = append(m.Answers, r)
	}
}

func (d *Decoder) record(i int) (r Record, next int) {
	var ttl uint64
	i, more := d.open(i, '{', '}')
	last := uint8(0)
	for more {
		key, j := d.member(i, recordKeys, &d.orders.record, last)
		if j < 0 {
			return r, -1
		}
		switch key {
		case keyRRName:
			r.Name, j = d.text(j)
		case keyRRType:
			r.Type, j = d.text(j)
		case keyTTL:
			ttl, j = d.number(j, 1<<32-1)
		case keyRData:
			r.Data, j = d.textOrOther(j)
		default:
			j = d.skip(j)
		}
		if j < 0 {
			return r, d.in(recordKeys, key)
		}
		i, more = d.more(j, '}')
		last = key
	}
	r.TTL = uint32(ttl)
	return r, i
}

// grouped reads {"A": ["192.0.2.1", ...], "CNAME": [...]}.
func (d *Decoder) grouped(i int) int {
	if d.isNull(i) {
		return i + 4
	}
	i, more := d.open(i, '{', '}')
	for more {
		typ, j := d.key(i)
		if j < 0 {
			return -1
		}
		if j = d.group(typ, j); j < 0 {
			return -1
		}
		i, more = d.more(j, '}')
	}
	return i
}

func (d *Decoder) group(typ []byte, i int) int {
	if d.at(i) != '[' {
		return d.skip(i)
	}
	i, more := d.open(i, '[', ']')
	for more {
		data, j := d.textOrOther(i)
		if j < 0 {
			return -1
		}
		d.add(Record{Name: d.ev.DNS.Name, Type: typ, Data: data})
		i, more = d.more(j, ']')
	}
	return i
}
