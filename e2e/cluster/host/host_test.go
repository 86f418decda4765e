package host

import "testing"

func TestDescribe(t *testing.T) {
	tests := []struct {
		name    string
		missing []Need
		want    string
	}{
		{"nothing", nil, ""},
		{"one", []Need{{"runc", "runc"}},
			"runc is missing: it is in the Debian package runc\n" +
				"install with the verb deps, or: apt-get install runc"},
		{"two of one package and one more", []Need{
			{"/usr/lib/cni/bridge", "containernetworking-plugins"},
			{"/usr/lib/cni/loopback", "containernetworking-plugins"},
			{"nft", "nftables"},
		},
			"/usr/lib/cni/bridge is missing: it is in the Debian package containernetworking-plugins\n" +
				"/usr/lib/cni/loopback is missing: it is in the Debian package containernetworking-plugins\n" +
				"nft is missing: it is in the Debian package nftables\n" +
				"install with the verb deps, or: apt-get install containernetworking-plugins nftables"},
	}
	for _, test := range tests {
		if got := Describe(test.missing); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestFind(t *testing.T) {
	if path, err := Find("sh"); err != nil || path == "" {
		t.Errorf("sh is not found: %v", err)
	}
	if _, err := Find("sallyport-no-such-program"); err == nil {
		t.Error("a program that is not there is found")
	}
	if _, err := Find("/no/such/file"); err == nil {
		t.Error("a file that is not there is found")
	}
}
