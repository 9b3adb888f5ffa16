package main

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"pakon/lists"
)

func ownData(t *testing.T) lists.Data {
	t.Helper()
	d, err := readData(os.DirFS("../data"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCompiledIsFresh(t *testing.T) {
	want, err := lists.Compile(ownData(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../" + binFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the installed lists are not what lists/data says: go run ./lists/generate")
	}
}

func TestSuffixesAreFresh(t *testing.T) {
	text, err := os.ReadFile("../data/" + suffixFile)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := readSuffixes(os.DirFS("../data"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(rules) || len(rules) < 9000 || !bytes.HasPrefix(text, []byte(suffixHeader)) {
		t.Errorf("%d rules, not as the generator writes them", len(rules))
	}
	for _, rule := range []string{"com", "co.uk", "cz", "*.ck", "!www.ck", "github.io", "xn--p1ai"} {
		if !slices.Contains(rules, rule) {
			t.Errorf("no rule %q", rule)
		}
	}
}

// TestImportedIsClean checks what a person could have changed in imported.txt:
// nothing is in it that we say ourselves, or that changes nothing.
func TestImportedIsClean(t *testing.T) {
	fsys := os.DirFS("../data")
	c, err := readCatalogue(fsys)
	if err != nil {
		t.Fatal(err)
	}
	own, ownHidden := len(c.groups), len(c.categories)
	if err := c.readImported(fsys); err != nil {
		t.Fatal(err)
	}
	lines := 0
	if err := eachLine(fsys, importedFile, func(_ string, indented bool) error {
		if indented {
			lines++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n := len(c.groups) - own + len(c.categories) - ownHidden; n != lines {
		t.Errorf("%d domains in %s, of which only %d say anything: take them over anew", lines, importedFile, n)
	}
}

func TestCatalogue(t *testing.T) {
	d := ownData(t)
	if len(d.Services) < 450 {
		t.Errorf("%d services, want at least 450", len(d.Services))
	}
	used := make(map[string]bool)
	for _, s := range d.Services {
		used[s.Category] = true
	}
	for _, c := range lists.Categories {
		if !used[c] {
			t.Errorf("no service of category %s", c)
		}
	}
	hidden := make(map[string]bool)
	for _, c := range d.Hidden {
		hidden[c] = true
	}
	for _, c := range lists.HiddenCategories {
		if isHiddenCategory(c) && !hidden[c] {
			t.Errorf("nothing is hidden as %s", c)
		}
	}
}

func TestKeysBelongToTheirServices(t *testing.T) {
	d := ownData(t)
	l, problems := lists.Load(os.DirFS("../../files/usr/share/pakon-light"))
	if len(problems) != 0 {
		t.Fatalf("problems: %v", problems)
	}
	for _, s := range d.Services {
		if c := l.Classify(s.Key); c.Group != s.Key || c.Category != s.Category {
			t.Errorf("%s (%s) is of %s (%s)", s.Key, s.Category, c.Group, c.Category)
		}
		if got, ok := l.Service(s.Key); !ok || got != s {
			t.Errorf("service %s is %v, want %v", s.Key, got, s)
		}
	}
}

// TestVisitedIsShown checks that nothing is hidden that people visit.
func TestVisitedIsShown(t *testing.T) {
	l, _ := lists.Load(os.DirFS("../../files/usr/share/pakon-light"))
	names := []string{
		"google.com", "www.google.com", "mail.google.com", "play.google.com", "accounts.google.com",
		"www.youtube.com", "i.ytimg.com", "www.facebook.com", "static.xx.fbcdn.net", "www.instagram.com",
		"web.whatsapp.com", "x.com", "twitter.com", "pbs.twimg.com", "www.linkedin.com",
		"static.licdn.com", "www.reddit.com", "www.snapchat.com", "www.tiktok.com", "www.pinterest.com",
		"www.yahoo.com", "s.yimg.com", "www.aol.com", "www.bing.com", "www.msn.com", "www.microsoft.com",
		"login.live.com", "outlook.office365.com", "www.apple.com", "www.icloud.com", "gateway.icloud.com",
		"www.amazon.de", "images-na.ssl-images-amazon.com", "www.ebay.com", "i.ebayimg.com",
		"wordpress.com", "i0.wp.com", "blog.wordpress.com", "www.shopify.com", "cdn.shopify.com",
		"www.adobe.com", "www.cloudflare.com", "challenges.cloudflare.com", "www.paypal.com",
		"js.stripe.com", "login.okta.com", "www.surveymonkey.com", "www.trustpilot.com", "www.wayfair.com",
		"www.theguardian.com", "www.onet.pl", "www.wp.pl", "poczta.o2.pl", "www.quora.com", "line.me",
		"www.salesforce.com", "cdn.jwplayer.com", "www.seznam.cz", "www.novinky.cz", "www.idnes.cz",
		"www.alza.cz", "www.heureka.cz", "mapy.cz", "www.csfd.cz", "www.mozilla.org", "addons.mozilla.org",
		"www.digicert.com", "letsencrypt.org", "www.godaddy.com", "www.vodafone.de", "www.telekom.de",
		"www.qualcomm.com", "www.debian.org", "www.openwrt.org", "jquery.com", "getbootstrap.com",
		"fontawesome.com", "www.jsdelivr.com",
		// Of shared platforms as a whole nothing is known.
		"bucket.s3.amazonaws.com", "d111111abcdef8.cloudfront.net", "video.akamaized.net",
		"assets.azureedge.net", "site.azurewebsites.net", "customer.global.ssl.fastly.net",
		"someone.github.io", "shop.myshopify.com", "thing.storage.googleapis.com",
	}
	for _, name := range names {
		if c := l.Classify(name); c.Hidden != "" {
			t.Errorf("%s is hidden as %s", name, c.Hidden)
		}
	}
	for _, s := range ownData(t).Services {
		for _, name := range []string{s.Key, "www." + s.Key} {
			if c := l.Classify(name); c.Hidden != "" && !slices.Contains(hiddenServices, s.Key) {
				t.Errorf("%s is hidden as %s", name, c.Hidden)
			}
		}
	}
}

// hiddenServices are the services whose own names say nothing.
var hiddenServices = []string{"ntp", "cdnjs.com", "unpkg.com", "typekit.com"}

func TestOwnHidden(t *testing.T) {
	l, _ := lists.Load(os.DirFS("../../files/usr/share/pakon-light"))
	tests := []struct{ name, want string }{
		{"stats.g.doubleclick.net", "advertising"},
		{"ssp.imedia.cz", "advertising"},
		{"www.google-analytics.com", "tracking"},
		{"region1.google-analytics.com", "tracking"},
		{"connect.facebook.net", "tracking"},
		{"graph.facebook.com", "tracking"},
		{"static.hotjar.com", "tracking"},
		{"app-measurement.com", "telemetry"},
		{"v10.events.data.microsoft.com", "telemetry"},
		{"o1.ingest.sentry.io", "telemetry"},
		{"incoming.telemetry.mozilla.org", "telemetry"},
		{"ocsp.digicert.com", "certificates"},
		{"r3.o.lencr.org", "certificates"},
		{"c.pki.goog", "certificates"},
		{"captive.apple.com", "connectivity"},
		{"www.msftconnecttest.com", "connectivity"},
		{"ntp", "time"},
		{"0.openwrt.pool.ntp.org", "time"},
		{"safebrowsing.googleapis.com", "browser"},
		{"edge.microsoft.com", "browser"},
		{"fonts.gstatic.com", "cdn"},
		{"cdn.jsdelivr.net", "cdn"},
		{"e1234.dscb.akamaiedge.net", "cdn"},
	}
	for _, tt := range tests {
		if c := l.Classify(tt.name); c.Hidden != tt.want {
			t.Errorf("%s is hidden as %q, want %q", tt.name, c.Hidden, tt.want)
		}
	}
}
