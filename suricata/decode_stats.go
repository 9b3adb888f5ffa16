package suricata

// stats decodes {"uptime": n, "capture": {...}, "decoder": {...} ...}.
func (d *Decoder) stats(i int) int {
	i, more := d.open(i, '{', '}')
	for more {
		key, j := d.key(i)
		if j < 0 {
			return -1
		}
		switch string(key) {
		case "uptime":
			d.ev.Stats.Uptime, j = d.quantity(j)
		case "capture":
			j = d.counters(j, captureCounter)
		case "decoder":
			j = d.counters(j, decoderCounter)
		case "tcp":
			j = d.counters(j, tcpCounter)
		case "flow":
			j = d.counters(j, flowCounter)
		default:
			j = d.skip(j)
		}
		if j < 0 {
			return d.inCounter(key)
		}
		i, more = d.more(j, '}')
	}
	return i
}

// counters decodes a group of counters, those for which counter has a place.
func (d *Decoder) counters(i int, counter func(*StatsCounters, []byte) *uint64) int {
	if d.isNull(i) {
		return i + 4
	}
	i, more := d.open(i, '{', '}')
	for more {
		key, j := d.key(i)
		if j < 0 {
			return -1
		}
		if p := counter(&d.ev.Stats, key); p != nil {
			*p, j = d.quantity(j)
		} else {
			j = d.skip(j)
		}
		if j < 0 {
			return d.inCounter(key)
		}
		i, more = d.more(j, '}')
	}
	return i
}

func (d *Decoder) inCounter(key []byte) int {
	if d.err.Field == "" {
		d.err.Field = string(key)
	}
	return -1
}

func captureCounter(c *StatsCounters, key []byte) *uint64 {
	switch string(key) {
	case "kernel_packets":
		return &c.KernelPackets
	case "kernel_drops":
		return &c.KernelDrops
	case "errors":
		return &c.CaptureErrors
	}
	return nil
}

func decoderCounter(c *StatsCounters, key []byte) *uint64 {
	switch string(key) {
	case "pkts":
		return &c.DecoderPackets
	case "bytes":
		return &c.DecoderBytes
	case "invalid":
		return &c.DecoderInvalid
	}
	return nil
}

func tcpCounter(c *StatsCounters, key []byte) *uint64 {
	switch string(key) {
	case "ssn_memcap_drop":
		return &c.SSNMemcapDrop
	case "segment_memcap_drop":
		return &c.SegmentMemcapDrop
	case "reassembly_gap":
		return &c.ReassemblyGap
	case "insert_data_normal_fail":
		return &c.InsertDataNormalFail
	case "memuse":
		return &c.TCPMemuse
	case "reassembly_memuse":
		return &c.ReassemblyMemuse
	}
	return nil
}

func flowCounter(c *StatsCounters, key []byte) *uint64 {
	switch string(key) {
	case "total":
		return &c.FlowTotal
	case "active":
		return &c.FlowActive
	case "memcap":
		return &c.FlowMemcap
	case "memuse":
		return &c.FlowMemuse
	case "emerg_mode_entered":
		return &c.EmergencyMode
	}
	return nil
}
