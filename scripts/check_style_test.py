#!/usr/bin/env python3
"""check_style.py on small files that break one rule each."""
import unittest

import check_style

LONG = '  f();\n' * 70


def problems(name, text):
    return check_style.check_file(name, text)[0]


class CheckStyle(unittest.TestCase):
    def one(self, name, text, words):
        found = problems(name, text)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def test_good_file(self):
        self.assertEqual(problems('src/a/b.cpp', 'namespace a {\nvoid f() {\n  g();\n}\n}  // namespace a\n'), [])

    def test_sizes_of_files(self):
        self.one('src/a.cpp', 'int x;\n' * 1001, '1001 lines')
        found, remarks = check_style.check_file('src/a.cpp', 'int x;\n' * 601)
        self.assertEqual((found, len(remarks)), ([], 1))
        self.one('src/a/CMakeLists.txt', '#\n' * 41, '41 lines')

    def test_long_function(self):
        for head in ('void f()', 'int A::f(int x) const', 'A::A(int x) : x_(x), y_{x}', 'auto f() -> std::vector<int>',
                     'template <class T> void f(T x)'):
            self.one('src/a.cpp', f'namespace a {{\nint x;\n{head} {{\n{LONG}}}\n}}\n', 'src/a.cpp:3: a function of 72')

    def test_what_is_no_long_function(self):
        self.assertEqual(problems('src/a.cpp', f'struct A {{\n{"  int x;" * 1}\n' + '  int f();\n' * 70 + '};\n'), [])
        self.assertEqual(problems('src/a.cpp', 'const int kTable[] = {\n' + '  1,\n' * 70 + '};\n'), [])
        self.assertEqual(problems('src/a.cu', f'__global__ void f() {{\n{LONG}}}\n'), [])
        self.assertEqual(problems('src/a_test.cpp', f'TEST(A, B) {{\n{LONG}}}\n'), [])

    def test_braces_in_strings_and_comments(self):
        text = 'void f() {\n  g("{", \'{\', 1\'000);  // {\n  /* { */\n}\n' + 'int x;\n' * 70
        self.assertEqual(problems('src/a.cpp', text + 'void h() {}\n'), [])

    def test_words(self):
        self.one('src/a.h', 'int x;\n', '#pragma once')
        self.one('src/a.cpp', '#include <iostream>\n', '<iostream>')
        self.assertEqual(problems('tools/a.cpp', '#include <iostream>\n'), [])
        self.one('src/a.cpp', 'auto x = std::getenv("X");\n', 'environment')
        self.assertEqual(problems('tools/a.cpp', 'auto x = std::getenv("X");\n'), [])
        self.one('src/a.cpp', '// TO' 'DO later\n', 'needs an issue')
        self.assertEqual(problems('src/a.cpp', '// TO' 'DO(#7): later\n'), [])

    def test_paths(self):
        for path in ('home/me', 'root/x', 'work/x', 'Users/me'):
            self.one('docs/a.md', f'see /{path}\n', "somebody's machine")
        self.assertEqual(problems('docs/a.md', 'see src/home/x, https://a.org/home/x and ${HOME}/mnt/y\n'), [])


if __name__ == '__main__':
    unittest.main()
